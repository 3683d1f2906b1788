"""What computes a model: one small interface, a module for each way of doing it."""

import base64
import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlplatform.runtime import litert, onnx, saved_model
from mlplatform.runtime.call import Run
from mlplatform.runtime.saved_model import FrozenCopy
from mlplatform.serving.model.signature import Array, Signature, Tensor

_SIZES = (1, 2, 4, 8, 16, 32, 64)
_SLOW_CALL = 0.25
_CLEAR_CALL = 0.02
_LEAST_TURNS = 2
_MOST_TURNS = 30
_MEASURING = 0.2


class RuntimeUnavailableError(Exception):
    """The model cannot be served by the runtime asked for; the message says why."""


@dataclass(frozen=True)
class WarmRuntime:
    """A loaded model that has been run at every batch size. costs: seconds of one call by number of rows."""

    run: Run
    costs: Mapping[int, float]


def load_runtime(
    name: str,
    path: Path,
    properties: Mapping[str, Any],
    signature: Signature,
    threads: int,
    max_rows: int,
    copy: FrozenCopy | None = None,
) -> WarmRuntime:
    """Load, warm up and measure a model.

    name: tensorflow, litert or onnx. path: of what it computes. properties: of the model's manifest.
    max_rows: rows of a full batch; 0: the size beyond which rows per second hardly rise.
    copy: of the frozen graph, for TensorFlow.
    Raises RuntimeUnavailableError, or whatever the runtime raises for a model it cannot read.
    """
    run = load_model(name, path, signature, threads, copy)
    warm = warm_up(run, sample_rows(properties, signature), signature, max_rows)
    # A full collection over TensorFlow's objects would hold up requests; frozen, they are never looked at again.
    gc.collect()
    gc.freeze()
    return warm


def load_model(name: str, path: Path, signature: Signature, threads: int, copy: FrozenCopy | None = None) -> Run:
    """Load a model, for tensorflow, litert or onnx, without running it. Raises whatever the runtime raises."""
    inputs, outputs = [tensor.name for tensor in signature.inputs], [tensor.name for tensor in signature.outputs]
    if name == "litert":
        return litert.load(path, inputs, outputs, threads)
    if name == "onnx":
        return onnx.load(path, inputs, outputs, threads)
    return saved_model.load(path, inputs, outputs, threads, copy)


def keep_frozen(path: Path, signature: Signature, copy: FrozenCopy) -> None:
    """Keep the frozen graph of a TensorFlow model, if it can be frozen. Raises OSError or ValueError."""
    inputs, outputs = [tensor.name for tensor in signature.inputs], [tensor.name for tensor in signature.outputs]
    saved_model.keep(path, inputs, outputs, copy)


def warm_up(run: Run, rows: Sequence[Array], signature: Signature, max_rows: int) -> WarmRuntime:
    """Run every batch size: the first call of a shape is up to a thousand times slower than the next.

    rows: as sample_rows gives them. max_rows: as in load_runtime. Raises RuntimeUnavailableError.
    """
    wanted = [size for size in _SIZES if size < max_rows] + [max_rows] if max_rows else list(_SIZES)
    batches: dict[int, list[Array]] = {}
    costs: dict[int, float] = {}
    for size in wanted:
        inputs = batch_of(rows, size)
        check_outputs(run(inputs), signature, size)
        batches[size] = inputs
        costs[size] = _timed(run, inputs)
        if not max_rows and (costs[size] > _SLOW_CALL or _no_gain(costs, size)):
            break
    end = time.perf_counter() + _MEASURING
    for number in range(_MOST_TURNS):
        if number >= _LEAST_TURNS and time.perf_counter() > end:
            break
        # What disturbs a call only ever adds to its time, and seldom lasts for a whole turn of all sizes.
        for size, inputs in batches.items():
            costs[size] = min(costs[size], _timed(run, inputs))
    if not max_rows:
        costs = _worthwhile(costs)
    return WarmRuntime(run, costs)


def _no_gain(costs: Mapping[int, float], size: int) -> bool:
    """Whether calls of this size, four times another's, compute no more rows per second: larger ones will not either.

    Only of calls so long that what disturbs one of them does not decide it. An image model is warm in half the time.
    """
    smaller = [rows / seconds for rows, seconds in costs.items() if 4 * rows <= size]
    return costs[size] > _CLEAR_CALL and bool(smaller) and size / costs[size] < 1.1 * max(smaller)


def _worthwhile(costs: Mapping[int, float]) -> dict[int, float]:
    """Up to the smallest batch that reaches nine tenths of the best rows per second; larger ones only wait longer."""
    best = max(size / seconds for size, seconds in costs.items())
    enough = min(size for size, seconds in costs.items() if size / seconds >= 0.9 * best)
    return {size: seconds for size, seconds in costs.items() if size <= enough}


def _timed(run: Run, inputs: Sequence[Array]) -> float:
    start = time.perf_counter()
    run(inputs)
    # Costs are divided by.
    return max(time.perf_counter() - start, 1e-6)


def batch_of(rows: Sequence[Array], size: int) -> list[Array]:
    """`size` rows of each array, which starts again from its first row where it has fewer."""
    return [np.resize(array, (size, *array.shape[1:])) for array in rows]


def check_outputs(outputs: Sequence[Array], signature: Signature, rows: int) -> None:
    """Raise RuntimeUnavailableError if an output has not one row for each of the inputs'."""
    for array, tensor in zip(outputs, signature.outputs, strict=True):
        if array.ndim == 0 or len(array) != rows:
            raise RuntimeUnavailableError(
                f"output {tensor.name!r} has shape {list(array.shape)} for {rows} rows; expected a row for a row"
            )


def sample_rows(properties: Mapping[str, Any], signature: Signature) -> list[Array]:
    """Each input's values (samples, ...) in the manifest's samples; zeros, one row, for a model without any.

    Samples, as zeros and empty text are values that a model may refuse: one that decodes images, for example. Lists of
    several lengths are filled up to the longest. Where rows vary in shape otherwise, only samples shaped like the first
    are used. Where inputs may be missing, the last row is one in which all of them are.
    """
    instances = [sample["instance"] for sample in properties.get("samples") or []]
    rows = [[_array(instance[tensor.name], tensor) for tensor in signature.inputs] for instance in instances]
    if not rows:
        rows = [[_nothing(tensor) for tensor in signature.inputs]]
    columns = [
        tensor.length.joined([array[np.newaxis] for array in column]) if tensor.length else column
        for tensor, column in zip(signature.inputs, zip(*rows, strict=True), strict=True)
    ]
    rows = [list(row) for row in zip(*columns, strict=True)]
    shapes = [array.shape for array in rows[0]]
    alike = [row for row in rows if [array.shape for array in row] == shapes]
    if any(tensor.optional for tensor in signature.inputs):
        pairs = zip(alike[0], signature.inputs, strict=True)
        alike.append([_all_missing(array, tensor) if tensor.optional else array for array, tensor in pairs])
    return [np.stack(arrays) for arrays in zip(*alike, strict=True)]


def _all_missing(array: Array, tensor: Tensor) -> Array:
    gap = tensor.gap
    return np.full_like(array, gap.encode() if isinstance(gap, str) else gap)


def longest(rows: Sequence[Array], signature: Signature) -> list[Array]:
    """`sample_rows` whose lists of several lengths are as long as they may be, which takes the most memory."""
    return [
        np.take(array, np.arange(tensor.length.most) % array.shape[1], axis=1) if tensor.length else array
        for array, tensor in zip(rows, signature.inputs, strict=True)
    ]


def _array(value: object, tensor: Tensor) -> Array:
    """One row's value; text as UTF-8, and what is no text from base64."""
    if tensor.dtype == "string":
        items = np.asarray(value, dtype=object)
        array = np.empty(items.shape, dtype=object)
        for place, item in np.ndenumerate(items):
            array[place] = base64.b64decode(item["b64"]) if isinstance(item, dict) else str(item).encode()
        return array
    # None becomes NaN.
    array = np.asarray(value, dtype=tensor.numpy_dtype)
    # No list says how many numbers its items would have.
    return array if array.size or not tensor.length else array.reshape(0, *tensor.item_shape)


def _nothing(tensor: Tensor) -> Array:
    shape = tuple(1 if size is None else size for size in tensor.shape)
    return np.full(shape, b"", dtype=object) if tensor.dtype == "string" else np.zeros(shape, dtype=tensor.numpy_dtype)
