"""The rooms and the arrows between them: who may import whom, and what each may bring into an image."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {"model", "training", "serving", "delivery", "artifacts", "telemetry"}
ARROWS = {
    "model": set(),
    "training": {"model", "artifacts", "telemetry"},
    "serving": {"artifacts", "telemetry"},
    "delivery": {"artifacts", "telemetry"},
    "artifacts": set(),
    "telemetry": set(),
}
FOREIGN = {
    "model": {"luigi", "flask", "boto3"},
    "training": {"flask", "gunicorn", "gevent"},
    "serving": {"luigi", "boto3", "keras"},
    "delivery": {"tensorflow", "keras", "flask", "luigi"},
    "artifacts": {"tensorflow", "keras", "flask", "luigi"},
    "telemetry": {"tensorflow", "keras", "flask", "luigi", "boto3", "gevent", "numpy"},
}


def imported(room: str) -> set[str]:
    found: set[str] = set()
    for path in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_imports_only_along_its_arrows(room: str) -> None:
    assert imported(room) & ROOMS <= ARROWS[room] | {room}


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_does_not_bring_in_what_its_image_must_not_hold(room: str) -> None:
    assert not imported(room) & FOREIGN[room]


def test_the_store_on_s3_is_the_one_file_that_needs_boto3() -> None:
    importing = re.compile(r"^\s*(import|from) (boto3|botocore)\b", re.MULTILINE)
    paths = [
        path
        for room in ("artifacts", "model", "serving", "telemetry", "training")
        for path in (ROOT / room).rglob("*.py")
    ]
    assert [path.name for path in paths if importing.search(path.read_text(encoding="utf-8"))] == ["s3.py"]
