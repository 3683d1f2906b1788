"""The copy for LiteRT: which models get one, and what the manifest says of those that do not."""

import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from mlplatform.contract.targets import Classes
from mlplatform.tests.training.splits import split
from mlplatform.training import litert
from mlplatform.training.export import Exported, export, predict_split

STEPS = (6, 3)
TARGET = Classes("label", "abc")
SIGNATURE = {"inputs": [{"name": "x"}], "outputs": [{"name": "probabilities"}]}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that converts."""
    x = keras.Input(STEPS, name="x")
    directory = tmp_path_factory.mktemp("exported") / "saved_model"
    export(_classifier(x, keras.layers.Flatten()(x)), TARGET, directory)
    return directory


@pytest.fixture
def runtime(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The manifest's entry for an exported model; `model.tflite`, if any, is in tmp_path."""
    test = split(tmp_path, x=np.random.default_rng(1).normal(size=(50, *STEPS)).astype(np.float32))

    def entry(saved_model: Path, change: float = 0.0, command: Sequence[str] = litert.CONVERTER) -> dict[str, Any]:
        expected: NDArray[np.float32] = predict_split(Exported(saved_model, SIGNATURE), test, 16)
        with litert.Converter(command) as converter:
            return litert.runtime(
                saved_model, tmp_path, test, expected + np.float32(change), 16, tmp_path, TARGET, converter
            )

    return entry


def test_a_model_that_converts_is_published_with_its_difference(
    exported: Path, runtime: Callable[..., dict[str, Any]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    entry = runtime(exported)
    assert (entry["path"], entry["valid"], entry["agreement"]) == ("model.tflite", True, 1.0)
    assert entry["difference"] < 1e-5
    assert (tmp_path / "model.tflite").stat().st_size > 1000
    # The converter prints a lot, which nobody acts on.
    assert "converter" not in capfd.readouterr().err


def test_a_recurrent_model_is_not_and_the_op_is_named(runtime: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    x = keras.Input(STEPS, name="x")
    export(_classifier(x, keras.layers.GRU(4)(x)), TARGET, tmp_path / "saved_model")
    entry = runtime(tmp_path / "saved_model")
    assert not entry["valid"]
    assert entry["reason"].startswith("op tf.TensorListReserve requires element_shape to be static")
    assert not (tmp_path / "model.tflite").exists()


def test_a_model_that_predicts_something_else_is_not(
    exported: Path, runtime: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    entry = runtime(exported, change=0.01)
    assert not entry["valid"]
    assert entry["reason"].startswith("a probability differs by 0.01 from the SavedModel's")
    assert not (tmp_path / "model.tflite").exists()


def test_labels_that_differ_are_counted() -> None:
    expected = np.array([[0.5, 0.5], [0.9, 0.1]], np.float32)
    found = expected + np.array([[-1e-4, 1e-4], [0, 0]], np.float32)
    assert "50.00% of the rows agree" in litert.compare(found, expected, TARGET)["reason"]
    assert litert.compare(np.full_like(found, np.nan), expected, TARGET)["reason"] == "its predictions are not finite"


def test_a_converter_that_crashes_does_not_end_the_run(exported: Path, runtime: Callable[..., dict[str, Any]]) -> None:
    crash = (sys.executable, "-c", f"import os; os.kill(os.getpid(), {signal.SIGSEGV.value})")
    assert runtime(exported, command=crash)["reason"] == "the converter crashed (SIGSEGV)"


def test_one_process_converts_one_model_after_the_other(exported: Path, tmp_path: Path) -> None:
    batches = tmp_path / "batches"
    batches.mkdir()
    np.savez(batches / "0.npz", input_x=np.zeros((2, *STEPS), np.float32))
    with litert.Converter() as converter:
        for name in ("one", "two"):
            assert converter.convert(exported, batches, tmp_path / name, list(TARGET.outputs)) == ""
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_process_that_has_ended_for_want_of_models_is_started_again(exported: Path, tmp_path: Path) -> None:
    batches = tmp_path / "batches"
    batches.mkdir()
    np.savez(batches / "0.npz", input_x=np.zeros((2, *STEPS), np.float32))
    ended = tmp_path / "ended"
    # It ends as one does that was asked for nothing; from the second start on it is the converter.
    program = f"mkdir {ended} 2>&- && exit 0; exec {shlex.join(litert.CONVERTER)}"
    with litert.Converter(("/bin/sh", "-c", program)) as converter:
        assert converter.convert(exported, batches, tmp_path / "model", list(TARGET.outputs)) == ""
    assert ended.is_dir()
    assert (tmp_path / "model").is_file()


def _classifier(x: Any, features: Any) -> keras.Model:
    keras.utils.set_random_seed(1)
    return keras.Model(inputs={"x": x}, outputs=keras.layers.Dense(3, activation="softmax")(features))
