"""The packages and the arrows between them: who may import whom, and what each may bring into an image."""

import ast
import re
from pathlib import Path

import pytest

from mlplatform.tests.conftest import ROOT

PLATFORM = ROOT / "mlplatform"
LEAVES = {"reporting", "telemetry"}
# What each package may import of the others.
ARROWS = {
    "config": set(),
    "store": {"config"},
    "contract": {"config", "store"},
    "data": {"config", "store", "contract"},
    "ghost": {"config", "store", "contract", *LEAVES},
    "runtime": set(),
    "training": {"config", "store", "contract", "data", "runtime", *LEAVES},
    "serving": {"config", "store", "contract", "ghost", "runtime", *LEAVES},
    "delivery": {"config", "store", "contract", "ghost", *LEAVES},
    "reporting": set(),
    "telemetry": set(),
}
# What must not come into the image that a package is in.
FOREIGN = {
    "config": {"tensorflow", "keras", "flask", "luigi", "boto3"},
    "store": {"tensorflow", "keras", "flask", "luigi"},
    "contract": {"tensorflow", "keras", "flask", "luigi", "boto3"},
    "data": {"tensorflow", "keras", "flask", "boto3"},
    "ghost": {"tensorflow", "keras", "flask", "luigi", "boto3"},
    "runtime": {"keras", "flask", "gunicorn", "gevent", "luigi", "boto3"},
    "training": {"flask", "gunicorn", "gevent", "boto3"},
    "serving": {"luigi", "boto3", "keras"},
    "delivery": {"tensorflow", "keras", "flask", "luigi"},
    "reporting": {"tensorflow", "keras", "flask", "luigi", "boto3"},
    "telemetry": {"tensorflow", "keras", "flask", "luigi", "boto3", "gevent", "numpy"},
}


def imported_by(path: Path) -> set[str]:
    """The modules and names that a file imports, by their full names."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported(folder: Path) -> set[str]:
    """What the Python files of a folder import."""
    return {name for path in folder.rglob("*.py") for name in imported_by(path)}


def test_every_package_has_its_arrows() -> None:
    folders = {path.parent.name for path in PLATFORM.glob("*/__init__.py")} - {"tests"}
    assert folders == set(ARROWS) == set(FOREIGN)


@pytest.mark.parametrize("package", sorted(ARROWS))
def test_a_package_imports_only_along_its_arrows(package: str) -> None:
    names = [name.split(".") for name in imported(PLATFORM / package) if name.startswith("mlplatform.")]
    assert {parts[1] for parts in names} <= ARROWS[package] | {package}


@pytest.mark.parametrize("package", sorted(ARROWS))
def test_a_package_does_not_bring_in_what_its_image_must_not_hold(package: str) -> None:
    assert not {name.split(".")[0] for name in imported(PLATFORM / package)} & FOREIGN[package]


@pytest.mark.parametrize("package", sorted(set(ARROWS) - {"training"}))
def test_only_training_imports_the_model(package: str) -> None:
    assert "model" not in {name.split(".")[0] for name in imported(PLATFORM / package)}


def test_the_model_imports_nothing_of_the_platform() -> None:
    names = {name.split(".")[0] for path in (ROOT / "model").glob("*.py") for name in imported_by(path)}
    assert not names & {"mlplatform", "luigi", "flask", "boto3"}


def test_the_store_on_s3_is_the_one_file_that_needs_boto3_outside_delivery() -> None:
    importing = re.compile(r"^\s*(import|from) (boto3|botocore)\b", re.MULTILINE)
    paths = [path for package in set(ARROWS) - {"delivery"} for path in (PLATFORM / package).rglob("*.py")]
    assert [path.name for path in paths if importing.search(path.read_text(encoding="utf-8"))] == ["s3.py"]
