"""What all tests share."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run `python -m <room> <arguments>` in an empty directory, with a service.toml and a store of its own."""
    (tmp_path / "service.toml").write_text('[service]\nname = "under-test"\n')
    return lambda room, *arguments, **environment: run(tmp_path, room, *arguments, **environment)


def run(directory: Path, room: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a room's command in a directory; no variable of the caller's that is a setting gets through."""
    rooms = ("SERVICE", "STORAGE", "TRAINING", "SERVING", "DELIVERY")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(rooms)}
    return subprocess.run(
        [sys.executable, "-m", room, *arguments],
        cwd=directory,
        env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
