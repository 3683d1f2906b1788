"""What computes a model: one small interface, a module for each way of doing it."""

import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlplatform.serving.model.batching import Run
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
    name: str, path: Path, properties: Mapping[str, Any], signature: Signature, threads: int, max_rows: int
) -> WarmRuntime:
    """Load, warm up and measure a model.

    name: tensorflow or litert. path: of what it computes. properties: of the model's manifest.
    max_rows: rows of a full batch; 0: the size beyond which rows per second hardly rise.
    Raises RuntimeUnavailableError, or whatever the runtime raises for a model it cannot read.
    """
    run = _load(name, path, signature, threads)
    warm = _warm_up(run, _samples(properties, signature), signature, max_rows)
    # A full collection over TensorFlow's million objects takes 120 ms; frozen, they are never looked at again.
    gc.collect()
    gc.freeze()
    return warm


def _load(name: str, path: Path, signature: Signature, threads: int) -> Run:
    # Imported late, for each image holds but one of them.
    if name == "litert":
        from mlplatform.serving.model import litert_runtime

        return litert_runtime.load(path, signature, threads)
    from mlplatform.serving.model import tensorflow_runtime

    return tensorflow_runtime.load(path, signature, threads)


def _warm_up(run: Run, row: Sequence[Array], signature: Signature, max_rows: int) -> WarmRuntime:
    """Run every batch size: the first call of a shape is up to a thousand times slower than the next."""
    wanted = [size for size in _SIZES if size < max_rows] + [max_rows] if max_rows else list(_SIZES)
    batches: dict[int, list[Array]] = {}
    costs: dict[int, float] = {}
    for size in wanted:
        inputs = [np.repeat(array, size, axis=0) for array in row]
        _check_outputs(run(inputs), signature, size)
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

    Only of calls so long that what disturbs one of them does not decide it. An image model of 2 ms a row is warm after
    0.4 s instead of 0.9.
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


def _check_outputs(outputs: Sequence[Array], signature: Signature, rows: int) -> None:
    for array, tensor in zip(outputs, signature.outputs, strict=True):
        if array.ndim == 0 or len(array) != rows:
            raise RuntimeUnavailableError(
                f"output {tensor.name!r} has shape {list(array.shape)} for {rows} rows; expected a row for a row"
            )


def _samples(properties: Mapping[str, Any], signature: Signature) -> list[Array]:
    """One row to warm up with: a sample of the manifest if it has one, else zeros."""
    samples = properties.get("samples") or [{}]
    instance = samples[0].get("instance", {})
    return [_sample(instance.get(tensor.name), tensor) for tensor in signature.inputs]


def _sample(value: object, tensor: Tensor) -> Array:
    shape = (1, *(1 if size is None else size for size in tensor.shape))
    if tensor.dtype == "string":
        return np.full(shape, b"", dtype=object)
    if value is not None:
        array = np.asarray(value, dtype=tensor.numpy_dtype)[np.newaxis]
        if array.ndim == len(shape):
            return array
    return np.zeros(shape, dtype=tensor.numpy_dtype)
