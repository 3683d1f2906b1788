"""Sessions of a rendered repository: what `lock` changes, and what others say before they install anything."""

import re
import shutil
from pathlib import Path

import pytest
from conftest import Render
from rendered import nox

pytestmark = pytest.mark.rendered


@pytest.fixture
def repository(render: Render, tmp_path: Path) -> Path:
    """What these sessions take of a rendered repository."""
    shutil.copytree(render({}) / "requirements", tmp_path / "requirements")
    shutil.copy(render({}) / "noxfile.py", tmp_path)
    return tmp_path


def pins(repository: Path) -> dict[str, set[str]]:
    """The lines of each lock that name a package and its version, by the lock's name."""
    return {
        path.name: set(re.findall(r"^\S+==.*$", path.read_text(encoding="utf-8"), re.MULTILINE))
        for path in (repository / "requirements").glob("*.txt")
    }


def test_locking_adds_the_teams_package_keeps_all_versions_and_settles_a_conflict(repository: Path) -> None:
    before = pins(repository)
    requirements = repository / "requirements"
    (requirements / "training.team.in").write_text("tomli-w==1.2.0\n", encoding="utf-8")
    lock = requirements / "training.txt"
    text = lock.read_text(encoding="utf-8")
    (template,) = re.findall(r"^absl-py==.*\n(?:    .*\n)+", text, re.MULTILINE)
    own = "absl-py==2.1.0 \\\n    --hash=sha256:0\n"
    conflict = f"<<<<<<< HEAD\n{own}=======\n{template}>>>>>>> the template\n"
    lock.write_text(text.replace(template, conflict), encoding="utf-8")

    result = nox(repository, "-s", "lock")

    assert result.returncode == 0, result.stdout
    after = pins(repository)
    added = {name: lines - before[name] for name, lines in after.items() if lines != before[name]}
    assert added == {name: {"tomli-w==1.2.0 \\"} for name in ("training.txt", "training-gpu.txt")}
    assert [name for name, lines in before.items() if not lines <= after[name]] == []
    assert "<<<<<<<" not in lock.read_text(encoding="utf-8")


def test_lint_names_a_package_that_is_not_locked(repository: Path) -> None:
    (repository / "requirements" / "serving.team.in").write_text("orjson>=999  # the team's\n", encoding="utf-8")
    result = nox(repository, "-s", "lint")
    assert result.returncode == 1
    said = "requirements/serving.team.in names orjson>=999, which requirements/{}.txt does not hold"
    each = "; ".join(said.format(name) for name in ("serving", "serving-litert", "serving-onnx"))
    assert f"{each}: run `.venv/bin/nox -s lock`" in result.stdout


def test_settings_that_are_not_toml_are_refused_in_the_programs_words(repository: Path) -> None:
    (repository / "service.toml").write_text("[serving]\nport = \n", encoding="utf-8")
    result = nox(repository, "-s", "serve")
    assert result.returncode == 1
    assert "service.toml: not valid TOML: Invalid value (at line 2, column 8)" in result.stdout
    assert "Traceback" not in result.stdout
