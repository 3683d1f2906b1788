"""Which commit a model is said to be made from."""

import subprocess
from pathlib import Path

import pytest

from mlplatform.training import provenance

CODE = "mlplatform/training/provenance.py"


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
