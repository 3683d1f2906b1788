"""ONNX Runtime: for a model that another framework than TensorFlow has trained and written as an ONNX file.

Such tools write a single value for each row as a column, (rows, 1). Here, as in requests, it is (rows,).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlplatform.runtime.call import DTYPES, Array, ModelRejectsError, Run

# ONNX's names of the types that differ from ours.
_NAMES = {"float": "float32", "double": "float64"}


@dataclass(frozen=True)
class Value:
    """An input or output of a graph, as its file says.

    dtype: one of call.DTYPES, or ONNX's own name of another type, such as `seq(map(int64,tensor(float)))`.
    shape: with the rows; None: of any length. Empty: the file leaves it open, or it is one value for all rows.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    @property
    def is_column(self) -> bool:
        """Whether it is (rows, 1), which is handed around as (rows,)."""
        return len(self.shape) == 2 and self.shape[1] == 1

    @property
    def row_shape(self) -> tuple[int | None, ...]:
        """Shape of one row, as it is handed around."""
        return () if self.is_column else self.shape[1:]


@dataclass(frozen=True)
class Graph:
    """A loaded ONNX file."""

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    session: Any

    def runs(self, inputs: Sequence[str], outputs: Sequence[str]) -> Run:
        """The graph as a function of arrays. Raises ValueError if it has other inputs, or lacks an output.

        inputs, outputs: names in the order in which arrays are handed around.
        """
        takes, gives = ({value.name: value for value in values} for values in (self.inputs, self.outputs))
        if takes.keys() != set(inputs):
            raise ValueError(f"takes {sorted(takes)}, the manifest says {sorted(inputs)}")
        if not gives.keys() >= set(outputs):
            raise ValueError(f"gives {sorted(gives)}, the manifest says {sorted(outputs)}")
        return _function(self.session, [takes[name] for name in inputs], [gives[name] for name in outputs])


def load(path: Path, inputs: Sequence[str], outputs: Sequence[str], threads: int) -> Run:
    """Load an ONNX file for serving. threads: for one call. To be called after fork.

    inputs, outputs: names in the order in which arrays are handed around; further outputs are not computed.
    Raises ValueError if it has other inputs, or lacks an output, and what ONNX Runtime raises for what is none.
    """
    try:
        return read(path, threads).runs(inputs, outputs)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read(path: Path, threads: int) -> Graph:
    """Load an ONNX file. threads: for one call. Raises what ONNX Runtime raises for what is none."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that wait in a loop for the next call take the CPU from the server's other work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # What it says of values that a model cannot take is in the exception, too.
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Graph(_values(session.get_inputs()), _values(session.get_outputs()), session)


def _values(arguments: Sequence[Any]) -> tuple[Value, ...]:
    return tuple(Value(one.name, _dtype(one.type), tuple(map(_size, one.shape or ()))) for one in arguments)


def _dtype(name: str) -> str:
    inner = name.removeprefix("tensor(").removesuffix(")")
    known = _NAMES.get(inner, inner)
    return known if known in DTYPES and name.startswith("tensor(") else name


def _size(size: Any) -> int | None:
    """A dimension; one that varies has a name, or none."""
    return size if isinstance(size, int) else None


def _function(session: Any, inputs: Sequence[Value], outputs: Sequence[Value]) -> Run:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    # None is a subclass of another.
    errors = state.Fail, state.InvalidArgument, state.RuntimeException, state.NotImplemented, state.EPFail
    names = [value.name for value in outputs]

    def run(arrays: Sequence[Array]) -> Sequence[Array]:
        given = {value.name: _given(array, value) for array, value in zip(arrays, inputs, strict=True)}
        try:
            computed = session.run(names, given)
        except errors as error:
            raise ModelRejectsError(_reason(str(error))) from None
        return [_computed(array, value) for array, value in zip(computed, outputs, strict=True)]

    return run


def _given(array: Array, value: Value) -> Array:
    """As ONNX Runtime takes it: text as str, for of bytes it would take what Python prints."""
    if value.dtype == "string":
        try:
            array = each(bytes.decode, array)
        except UnicodeDecodeError:
            raise ModelRejectsError(f"input {value.name!r} holds text that is not UTF-8") from None
    return array[:, np.newaxis] if value.is_column and array.ndim == 1 else array


def _computed(array: Array, value: Value) -> Array:
    """As it is handed around: text as bytes."""
    if value.dtype == "string":
        array = each(str.encode, array)
    return array[:, 0] if value.is_column and array.ndim == 2 else array


def each(function: Callable[[Any], Any], array: Array) -> Array:
    """An array of objects, what a function makes of each; NumPy's own types of text have one width for all."""
    made = np.empty(array.size, object)
    made[:] = [function(item) for item in array.reshape(-1)]
    return made.reshape(array.shape)


def _reason(message: str) -> str:
    """The part of ONNX Runtime's message after codes and the name of the node."""
    first = message.strip().partition("\n")[0]
    for mark in ("Status Message: ", " : "):
        if mark in first:
            return first.rpartition(mark)[2]
    return first
