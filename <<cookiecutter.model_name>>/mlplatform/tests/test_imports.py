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
    "data": {"config", "store", "contract", *LEAVES},
    "ghost": {"config", "store", "contract", *LEAVES},
    "runtime": set(),
    "training": {"config", "store", "contract", "data", "runtime", *LEAVES},
    "serving": {"config", "store", "contract", "ghost", "runtime", *LEAVES},
    "delivery": {"config", "store", "contract", "data", "ghost", *LEAVES},
    "reporting": set(),
    "telemetry": set(),
}
# What must not come into the image that a package is in.
FOREIGN = {
    "config": {"tensorflow", "keras", "flask", "luigi", "boto3"},
    "store": {"tensorflow", "keras", "flask", "luigi"},
    "contract": {"tensorflow", "keras", "flask", "luigi", "boto3"},
    "data": {"tensorflow", "keras", "flask", "luigi", "boto3"},
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


def module_graph() -> dict[str, set[str]]:
    """For each module of the platform the others that it imports, anywhere in its file: at the top or in a function."""
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PLATFORM.rglob("*.py")
        if "tests" not in path.parts
    }

    def module_of(name: str) -> str:
        """The longest part of a dotted name that is a module; empty for what is not ours."""
        while name and name not in modules:
            name = name.rpartition(".")[0]
        return name

    return {
        module: {other for name in imported_by(path) if (other := module_of(name)) not in ("", module)}
        for module, path in modules.items()
    }


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Circles of imports, each as `a -> b -> a`."""
    closed: list[str] = []
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> None:
        for other in sorted(graph[module]):
            if other in trail:
                closed.append(" -> ".join([*trail[trail.index(other) :], other]))
            elif other not in done:
                visit(other, [*trail, other])
        done.add(module)

    for module in sorted(graph):
        if module not in done:
            visit(module, [module])
    return closed


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circles(module_graph()) == []


def test_a_circle_is_named_by_its_modules() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == ["b -> c -> b"]


def test_an_import_inside_a_function_counts(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text("def late():\n    from mlplatform.store import s3\n")
    assert imported_by(tmp_path / "late.py") == {"mlplatform.store.s3"}


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


def test_only_training_the_parameters_and_one_module_of_data_import_the_model() -> None:
    paths = [path for package in set(ARROWS) - {"training"} for path in (PLATFORM / package).rglob("*.py")]
    importing = [path for path in paths if "model" in {name.split(".")[0] for name in imported_by(path)}]
    names = sorted(path.relative_to(PLATFORM).as_posix() for path in importing)
    assert names == ["contract/parameters.py", "data/team.py"]


def test_the_model_imports_of_the_platform_only_what_the_page_on_training_shows() -> None:
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^from (mlplatform[\w.]*) import ", page, re.MULTILINE))
    names = {name for path in (ROOT / "model").glob("*.py") for name in imported_by(path)}
    modules = {name.rpartition(".")[0] for name in names if name.split(".")[0] == "mlplatform"}
    assert modules <= shown
    assert not {name.split(".")[0] for name in names} & {"luigi", "flask", "boto3"}


def test_the_store_on_s3_is_the_one_file_that_needs_boto3_outside_delivery() -> None:
    importing = re.compile(r"^\s*(import|from) (boto3|botocore)\b", re.MULTILINE)
    paths = [path for package in set(ARROWS) - {"delivery"} for path in (PLATFORM / package).rglob("*.py")]
    assert [path.name for path in paths if importing.search(path.read_text(encoding="utf-8"))] == ["s3.py"]
