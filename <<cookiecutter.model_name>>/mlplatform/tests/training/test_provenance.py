"""What a model is made from: the version of its code, and the commit that it is recorded with."""

import subprocess
from pathlib import Path

import pytest

from mlplatform.training import provenance
from mlplatform.training.provenance import code_version

CODE = "mlplatform/training/provenance.py"
FILES = (
    *("model/network.py", "model/words/vocabulary.txt", "model/data/rows.csv", "model/data/README.md"),
    *("model/tests/test_model.py", "model/.hidden", "model/README.md", "model/__pycache__/network.pyc"),
    *("mlplatform/training/fitting.py", "mlplatform/serving/server.py", "mlplatform/tests/test_this.py"),
    *("requirements/training.txt", "requirements/serving.txt"),
)
PART_OF_IT = (
    *("model/network.py", "model/words/vocabulary.txt"),
    *("mlplatform/training/fitting.py", "requirements/training.txt"),
)


@pytest.fixture
def outer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository, in whose folder demo/ the code is."""
    monkeypatch.delenv("GIT_COMMIT", raising=False)
    monkeypatch.setattr(provenance, "ROOT", tmp_path / "demo")
    (tmp_path / "demo" / CODE).parent.mkdir(parents=True)
    (tmp_path / "demo" / CODE).touch()
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "First")
    return tmp_path


def git(directory: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=A", "-c", "user.email=tests@localhost", *arguments]
    return subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True).stdout.strip()


def test_a_repository_around_the_code_that_does_not_track_it_is_ignored(outer: Path) -> None:
    assert provenance.git_commit() is None


def test_the_commit_of_the_repository_that_tracks_the_code_is_recorded(outer: Path) -> None:
    git(outer, "add", "demo")
    git(outer, "commit", "--quiet", "--message", "The code")
    assert provenance.git_commit() == git(outer, "rev-parse", "HEAD")


@pytest.mark.parametrize("changed", FILES)
def test_it_changes_with_what_a_model_is_made_of(changed: str, tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("before")
    before = code_version(tmp_path, tmp_path / "model" / "data")
    (tmp_path / changed).write_text("after")
    assert (code_version(tmp_path, tmp_path / "model" / "data") != before) == (changed in PART_OF_IT)
