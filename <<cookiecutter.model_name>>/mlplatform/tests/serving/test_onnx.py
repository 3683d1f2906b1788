"""A model of another framework: an ONNX file, served without TensorFlow."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlplatform.store.manifest import publish
from mlplatform.store.storage import LocalStorage
from mlplatform.tests.model_contract.protocols import Predictions, v1_columns, v1_rows, v2_binary, v2_json
from mlplatform.tests.onnx_models import linear
from mlplatform.tests.serving.running import NAME, ROOT, Running, service_toml, serving

Ask = Callable[[Running, Sequence[Mapping[str, Any]]], Predictions]
COLUMNS = ("a", "b", "c")
WEIGHTS = np.array([[1, -1], [0.5, 2], [-3, 0.25]], np.float32)
VERSION = "eeeeeeeeeeee"
MODEL = Path("store/models") / VERSION


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service.toml with a store that holds an ONNX model of three columns and two classes."""
    directory = tmp_path_factory.mktemp("table")
    (directory / "files").mkdir()
    (directory / "files" / "model.onnx").write_bytes(linear(COLUMNS, WEIGHTS))
    other = {"valid": False, "reason": "it is an ONNX model"}
    properties = {
        "name": NAME,
        "signature": {
            "inputs": [{"name": name, "shape": [None], "dtype": "float32"} for name in COLUMNS],
            "outputs": [{"name": "probabilities", "shape": [None, 2], "dtype": "float32"}],
        },
        "labels": ["no", "yes"],
        "samples": [{"instance": {"a": 1.0, "b": 2.0, "c": 3.0}, "label": "no"}],
        "runtimes": {"onnx": {"path": "model.onnx", "valid": True}, "tensorflow": other, "litert": other},
    }
    store = LocalStorage(directory / "store")
    publish(store, f"models/{VERSION}", directory / "files", "model", VERSION, properties)
    return service_toml(directory, runtime="onnx")


@pytest.fixture(scope="module")
def server(table: Path) -> Iterator[Running]:
    with serving(table) as running:
        running.wait_for(200)
        yield running


@pytest.mark.parametrize("ask", [v1_rows, v1_columns, v2_json, v2_binary])
@pytest.mark.parametrize("rows", [1, 11, 200])
def test_every_protocol_gives_its_predictions(server: Running, ask: Ask, rows: int) -> None:
    values = np.random.default_rng(rows).normal(size=(rows, 3)).astype(np.float32)
    scores = np.exp(values @ WEIGHTS)
    instances = [dict(zip(COLUMNS, row, strict=True)) for row in values.tolist()]
    found = ask(server, instances)["probabilities"]
    np.testing.assert_allclose(found, scores / scores.sum(axis=1, keepdims=True), atol=1e-5)


def test_needs_no_tensorflow(server: Running) -> None:
    (worker,) = server.workers()
    maps = Path(f"/proc/{worker}/maps").read_text()
    assert "onnxruntime" in maps
    assert "/tensorflow/" not in maps


def test_says_what_it_is(server: Running) -> None:
    described = server.get(f"/v2/models/{NAME}").body
    assert described["platform"] == "onnx_onnxv1"
    assert [tensor["name"] for tensor in described["inputs"]] == list(COLUMNS)


def test_an_image_is_built_only_of_what_it_computes(table: Path, tmp_path: Path) -> None:
    memory = tmp_path / "memory-bytes"
    command = [sys.executable, "-m", "mlplatform", "verify", str(table.parent / MODEL)]
    options = ["--runtime", "onnx", "--memory-file", str(memory), "--frozen", str(tmp_path / "frozen")]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("as its manifest says; onnx predicts its samples, 16 rows at most\n")
    assert 30_000_000 < int(memory.read_text()) < 500_000_000
    assert not (tmp_path / "frozen").exists()


def test_another_runtime_is_refused_with_what_would_do(table: Path) -> None:
    with serving(table, runtime="tensorflow") as running:
        assert running.process.wait(60) == 3
        assert (
            f"error: [serving] runtime = 'tensorflow' cannot compute model {VERSION}: it is an ONNX model; "
            "use runtime = 'onnx'" in running.log
        )


def test_a_network_of_keras_is_refused_with_what_would_do(light: Path) -> None:
    with serving(light, runtime="onnx") as running:
        assert running.process.wait(60) == 3
        assert (
            "error: [serving] runtime = 'onnx' cannot compute model aaaaaaaaaaaa: it was published without it; "
            "use runtime = 'tensorflow'" in running.log
        )


def test_its_image_holds_what_the_other_does_but_for_tensorflow() -> None:
    def packages(name: str) -> set[str]:
        lines = (ROOT / "requirements" / name).read_text().splitlines()
        return {line for line in lines if not line.startswith("#")}

    common = {line for line in packages("serving.in") if not line.startswith("tensorflow")}
    assert packages("serving-onnx.in") == common | {"onnxruntime"}
    assert "\ntensorflow" not in (ROOT / "requirements/serving-onnx.txt").read_text()
