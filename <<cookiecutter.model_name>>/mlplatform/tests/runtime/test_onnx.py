"""The ONNX runtime: a file as a function of arrays, in the forms in which the server hands them around."""

from pathlib import Path

import numpy as np
import pytest

from mlplatform.runtime import onnx
from mlplatform.runtime.call import ModelRejectsError
from mlplatform.runtime.onnx import Value
from mlplatform.tests.onnx_models import DOUBLE, FLOAT, INT64, STRING, linear, model, node


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


def test_columns_are_handed_around_as_values(file: Path) -> None:
    file.write_bytes(linear(["a", "b"], np.eye(2, dtype=np.float32)))
    run = onnx.load(file, ["b", "a"], ["probabilities"], threads=1)
    (found,) = run([np.zeros(3, np.float32), np.full(3, 10, np.float32)])
    np.testing.assert_allclose(found, [[1, 0]] * 3, atol=1e-4)


def test_a_column_that_comes_out_is_a_value_for_each_row(file: Path) -> None:
    file.write_bytes(model([node("Neg", "x", "y")], {"x": (FLOAT, ["n", 1])}, {"y": (FLOAT, ["n", 1])}))
    (found,) = onnx.load(file, ["x"], ["y"], threads=1)([np.arange(3, dtype=np.float32)])
    np.testing.assert_array_equal(found, [0, -1, -2])


def test_text_goes_in_and_comes_out_as_bytes(file: Path) -> None:
    file.write_bytes(model([node("Identity", "x", "y")], {"x": (STRING, [None, 2])}, {"y": (STRING, [None, 2])}))
    texts = np.array([["one", "zwölf"], ["", "a\0b"]], object)
    given = onnx.each(str.encode, texts)
    (found,) = onnx.load(file, ["x"], ["y"], threads=1)([given])
    np.testing.assert_array_equal(found, given)


def test_what_a_model_cannot_take_is_told_in_its_words(file: Path) -> None:
    file.write_bytes(
        model(
            [node("Gather", "table i", "y")], {"i": (INT64, ["n"])}, {"y": (FLOAT, ["n"])}, table=np.ones(3, np.float32)
        )
    )
    run = onnx.load(file, ["i"], ["y"], threads=1)
    with pytest.raises(ModelRejectsError, match=r"^indices element out of data bounds, idx=9 must be within"):
        run([np.array([9])])


def test_text_that_is_not_utf_8_is_refused_by_its_input(file: Path) -> None:
    file.write_bytes(model([node("Identity", "x", "y")], {"x": (STRING, [None])}, {"y": (STRING, [None])}))
    run = onnx.load(file, ["x"], ["y"], threads=1)
    with pytest.raises(ModelRejectsError, match="input 'x' holds text that is not UTF-8"):
        run([np.array([b"\xff"], object)])


def test_a_file_with_other_inputs_than_the_manifest_says_is_refused(file: Path) -> None:
    file.write_bytes(linear(["a", "b"], np.eye(2, dtype=np.float32)))
    with pytest.raises(ValueError, match=r"takes \['a', 'b'\], the manifest says \['a'\]"):
        onnx.load(file, ["a"], ["probabilities"], threads=1)
    with pytest.raises(ValueError, match=r"gives \['label', 'probabilities'\], the manifest says \['y'\]"):
        onnx.load(file, ["a", "b"], ["y"], threads=1)


def test_the_file_says_names_types_and_shapes(file: Path) -> None:
    file.write_bytes(
        model(
            [node("Identity", "x", "y"), node("Identity", "t", "u")],
            {"x": (DOUBLE, ["n", 8, None]), "t": (STRING, None)},
            {"y": (DOUBLE, [2, 1]), "u": (STRING, None)},
        )
    )
    graph = onnx.read(file, threads=1)
    assert graph.inputs == (Value("x", "float64", (None, 8, None)), Value("t", "string", ()))
    assert graph.outputs[0].row_shape == ()


def test_a_call_has_the_threads_that_it_is_given(file: Path) -> None:
    file.write_bytes(linear(["a", "b"], np.eye(2, dtype=np.float32)))

    def started(threads: int) -> int:
        before = len(list(Path("/proc/self/task").iterdir()))
        loaded = onnx.read(file, threads)
        after = len(list(Path("/proc/self/task").iterdir()))
        del loaded
        return after - before

    # ONNX Runtime itself starts one.
    started(1)
    # The thread that calls is one of them.
    assert [started(threads) for threads in (1, 3)] == [0, 2]
