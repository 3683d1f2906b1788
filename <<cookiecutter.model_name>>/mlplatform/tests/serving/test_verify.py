"""`python -m mlplatform verify DIRECTORY`: an image is built only of a model that it can serve."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlplatform.cli import main
from mlplatform.store.manifest import publish, read_directory
from mlplatform.store.storage import open_storage
from mlplatform.tests.conftest import ROOT
from mlplatform.tests.serving.running import serving


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A published artifact of one file."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "weights.bin").write_bytes(b"0123")
    publish(open_storage(str(tmp_path / "store")), "datasets/abc", tmp_path / "files", "dataset", "abc", {})
    return tmp_path / "store" / "datasets" / "abc"


def test_an_artifact_that_is_whole_is_described(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(artifact)]) == 0
    assert capsys.readouterr().out == "dataset abc: 1 files, 4 bytes, as its manifest says\n"


def test_a_file_that_was_changed_is_named(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    next(artifact.rglob("weights.bin")).write_bytes(b"0124")
    assert main(["verify", str(artifact)]) == 1
    assert "weights.bin: its SHA-256 is not the one in the manifest" in capsys.readouterr().err


def test_a_directory_without_a_manifest_is_no_artifact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path)]) == 1
    assert "manifest.json: not there" in capsys.readouterr().err


def test_without_a_directory_it_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify"]) == 2
    # A long path of Python breaks the line.
    assert "-m mlplatform verify [OPTIONS] DIRECTORY" in " ".join(capsys.readouterr().err.split())


def verify(directory: Path, runtime: str, *options: str) -> tuple[int, str, str]:
    """Exit code, output and errors of the command: in a process of its own, which sets TensorFlow up."""
    command = [sys.executable, "-m", "mlplatform", "verify", str(directory), "--runtime", runtime, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("runtime", ["tensorflow", "litert"])
def test_a_model_is_loaded_and_predicts_its_samples_and_its_memory_is_measured(
    toml: Path, tmp_path: Path, runtime: str
) -> None:
    memory = tmp_path / "memory-bytes"
    code, output, errors = verify(toml.parent / "store/models/aaaaaaaaaaaa", runtime, "--memory-file", str(memory))
    assert code == 0, errors
    # Python with NumPy is at least 30 MB, and a model of a thousand weights takes nothing beside TensorFlow.
    assert 30_000_000 < int(memory.read_text()) < 2_000_000_000
    assert output.endswith(f"as its manifest says; {runtime} predicts its samples, 16 rows at most\n")


@pytest.mark.nightly
def test_the_server_predicts_the_same_from_the_frozen_graph_that_verify_has_made(
    toml: Path, tmp_path: Path, reference: Any
) -> None:
    code, _, errors = verify(toml.parent / "store/models/aaaaaaaaaaaa", "tensorflow", "--frozen", str(tmp_path))
    assert code == 0, errors
    assert (tmp_path / "graph.pb").is_file()
    images = np.random.default_rng(1).uniform(0, 16, (3, 8, 8)).astype(np.float32)
    with serving(toml, frozen=tmp_path) as server:
        server.wait_for(200)
        reply = server.predict({"instances": images.tolist()})
    np.testing.assert_allclose(reply.body["predictions"], reference({"image": images}), atol=1e-5)


def test_a_model_that_the_server_cannot_load_is_refused(toml: Path, tmp_path: Path) -> None:
    published, _ = read_directory(toml.parent / "store/models/aaaaaaaaaaaa")
    (tmp_path / "files" / "saved_model").mkdir(parents=True)
    (tmp_path / "files" / "saved_model" / "saved_model.pb").write_bytes(b"no graph")
    storage = open_storage(str(tmp_path / "store"))
    publish(storage, "models/abc", tmp_path / "files", "model", "abc", published.properties)
    code, output, errors = verify(tmp_path / "store/models/abc", "tensorflow")
    assert (code, output) == (1, "")
    assert "verify: tensorflow cannot load model abc: " in errors


@pytest.mark.parametrize(
    ("runtimes", "runtime", "reason"),
    [
        (
            {"litert": {"path": "model.tflite", "valid": False, "reason": "op tf.StringLower is not known"}},
            "litert",
            "op tf.StringLower is not known",
        ),
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
    refused = (
        f"verify: [serving] runtime = {runtime!r} cannot compute model abc: {reason}; use runtime = 'tensorflow'\n"
    )
    assert (code, capsys.readouterr().err) == (1, refused)


def test_a_model_whose_runtime_names_no_file_of_it_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "files").mkdir()
    properties = {"runtimes": {"litert": {"path": "../../../model.tflite", "valid": True}}}
    publish(open_storage(str(tmp_path / "store")), "models/abc", tmp_path / "files", "model", "abc", properties)
    assert main(["verify", str(tmp_path / "store/models/abc"), "--runtime", "litert"]) == 1
    refused = "runtimes.litert.path = '../../../model.tflite' is none of its files; publish the model again"
    assert refused in capsys.readouterr().err
