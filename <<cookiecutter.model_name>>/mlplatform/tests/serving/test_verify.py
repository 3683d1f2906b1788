"""`python -m mlplatform verify DIRECTORY`, by which an image is built of a whole model only."""

from pathlib import Path
from typing import Any

import pytest

from mlplatform.cli import main
from mlplatform.store.manifest import publish
from mlplatform.store.storage import open_storage


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A published artifact of one file."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "weights.bin").write_bytes(b"0123")
    publish(open_storage(str(tmp_path / "store")), "models/abc", tmp_path / "files", "model", "abc", {})
    return tmp_path / "store" / "models" / "abc"


def test_an_artifact_that_is_whole_is_described(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(published)]) == 0
    assert capsys.readouterr().out == "model abc: 1 files, 4 bytes, as its manifest says\n"


def test_a_file_that_was_changed_is_named(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    next(published.rglob("weights.bin")).write_bytes(b"0124")
    assert main(["verify", str(published)]) == 1
    assert "weights.bin: its SHA-256 is not the one in the manifest" in capsys.readouterr().err


def test_a_directory_without_a_manifest_is_no_artifact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path)]) == 1
    assert "manifest.json: not there" in capsys.readouterr().err


def test_without_a_directory_it_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify"]) == 2
    assert "Usage: python -m mlplatform verify [OPTIONS] DIRECTORY" in capsys.readouterr().err


RUNTIMES = {
    "tensorflow": {"path": "saved_model", "valid": True},
    "litert": {"path": "model.tflite", "valid": False, "reason": "op tf.StringLower is not known"},
}


@pytest.mark.parametrize(
    ("runtimes", "runtime", "reason"),
    [
        (RUNTIMES, "tensorflow", ""),
        (RUNTIMES, "litert", "op tf.StringLower is not known"),
        ({"litert": {"path": "model.tflite", "valid": True}}, "litert", ""),
        ({}, "litert", "it was published without it"),
    ],
)
def test_a_model_is_refused_for_a_runtime_that_cannot_compute_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], runtimes: dict[str, Any], runtime: str, reason: str
) -> None:
    (tmp_path / "files").mkdir()
    storage, properties = open_storage(str(tmp_path / "store")), {"runtimes": runtimes}
    publish(storage, "models/abc", tmp_path / "files", "model", "abc", properties)
    code = main(["verify", str(tmp_path / "store/models/abc"), "--runtime", runtime])
    said = f"verify: [serving] runtime = {runtime!r} cannot compute model abc: {reason}; use runtime = 'tensorflow'\n"
    assert (code, capsys.readouterr().err) == ((1, said) if reason else (0, ""))
