"""The TensorFlow runtime, in a process of its own: it is set up once in a process."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from mlplatform.runtime.saved_model import FREEZABLE_BYTES, FrozenCopy, keep, open_model
from mlplatform.tests.conftest import ROOT

# Loads a model and computes a row; prints how much memory that took at most, in bytes, and the outputs.
LOAD = """
import json, sys
from pathlib import Path
import numpy as np
import tensorflow as tf
from mlplatform.runtime import saved_model

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

before = peak()
run = saved_model.load(Path(sys.argv[1]), ["x"], ["y"], 1)
(outputs,) = run([np.arange(float(sys.argv[2]), dtype=np.float32)[np.newaxis]])
print(json.dumps([peak() - before, outputs.tolist()]))
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A SavedModel with more weights than are frozen, which gives back its input; and their bytes."""
    width = int((1.5 * FREEZABLE_BYTES / 4) ** 0.5)
    module = tf.Module()
    module.weights = tf.Variable(tf.eye(width))
    serve = tf.function(
        lambda x: {"y": tf.matmul(x, module.weights)},
        input_signature=[tf.TensorSpec((None, width), tf.float32, name="x")],
    )
    directory = tmp_path_factory.mktemp("large") / "saved_model"
    tf.saved_model.save(module, str(directory), signatures={"serving_default": serve})
    return directory, 4 * width**2


@pytest.mark.nightly
def test_a_large_model_is_loaded_in_little_more_memory_than_its_weights(large: tuple[Path, int]) -> None:
    directory, weights = large
    width = int((weights / 4) ** 0.5)
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(directory), str(width)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    peak, outputs = json.loads(done.stdout)
    np.testing.assert_array_equal(outputs, [np.arange(width)])
    assert weights < peak < 3 * weights


@pytest.fixture
def doubling(tmp_path: Path) -> Path:
    """A SavedModel that doubles its input by a weight."""
    module = tf.Module()
    module.weight = tf.Variable(2.0)
    serve = tf.function(
        lambda x: {"y": x * module.weight}, input_signature=[tf.TensorSpec((None,), tf.float32, name="x")]
    )
    tf.saved_model.save(module, str(tmp_path / "saved_model"), signatures={"serving_default": serve})
    return tmp_path / "saved_model"


ROWS = [np.array([1.0, 3.0], np.float32)]


def test_a_frozen_graph_that_was_kept_computes_the_model_without_its_files(doubling: Path, tmp_path: Path) -> None:
    copy = FrozenCopy(tmp_path / "copy", "0123")
    keep(doubling, ["x"], ["y"], copy)
    run = open_model(tmp_path / "elsewhere", ["x"], ["y"], copy=copy)
    assert run(ROWS)[0].tolist() == [2.0, 6.0]


@pytest.mark.parametrize("changed", ["model", "tensorflow", "inputs"])
def test_a_frozen_graph_of_another_model_or_tensorflow_is_not_used(
    doubling: Path, tmp_path: Path, changed: str
) -> None:
    copy = FrozenCopy(tmp_path / "copy", "0123")
    keep(doubling, ["x"], ["y"], copy)
    copy.origin.write_text(json.dumps(json.loads(copy.origin.read_text()) | {changed: {"other": "x:0"}}))
    copy.graph.write_bytes(b"no graph")
    assert open_model(doubling, ["x"], ["y"], copy=copy)(ROWS)[0].tolist() == [2.0, 6.0]


def test_no_frozen_graph_is_kept_of_a_model_that_is_too_large(large: tuple[Path, int], tmp_path: Path) -> None:
    copy = FrozenCopy(tmp_path / "copy", "0123")
    keep(large[0], ["x"], ["y"], copy)
    assert not copy.origin.exists()
