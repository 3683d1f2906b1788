"""LiteRT: starts in half a second and takes a quarter of TensorFlow's memory, for the models that convert to it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlplatform.runtime.call import BATCHES, Array, ModelRejectsError, Run

_SIZES = tuple(sorted(BATCHES, reverse=True))
_LARGE_BYTES = 32 << 20
_SIZES_OF_LARGE = (16, 4, 1)
"""Each interpreter has a copy of the weights, packed for the CPU: a large model has fewer of them."""


def load(path: Path, inputs: Sequence[str], outputs: Sequence[str], threads: int) -> Run:
    """Load a .tflite file. threads: for one call. Raises ValueError if it is none with this signature.

    inputs, outputs: names in the order in which arrays are handed around.

    An interpreter computes one number of rows, and changing that allocates anew: so there is one for each of a few
    numbers of rows, and a call of eleven is computed as 8 + 2 + 1, of a large model as 4 + 4 + 1 + 1 + 1. They are not
    thread-safe, and need not be.
    """
    sizes = _SIZES if path.stat().st_size <= _LARGE_BYTES else _SIZES_OF_LARGE
    interpreters: dict[int, _Interpreter] = {}

    def run(arrays: Sequence[Array]) -> Sequence[Array]:
        rows, start = len(arrays[0]), 0
        parts = []
        while start < rows:
            size = next(size for size in sizes if size <= rows - start)
            if size not in interpreters:
                interpreters[size] = _Interpreter(path, inputs, outputs, threads)
            parts.append(interpreters[size].run([array[start : start + size] for array in arrays]))
            start += size
        return parts[0] if len(parts) == 1 else [np.concatenate(batches) for batches in zip(*parts, strict=True)]

    return run


class _Interpreter:
    """One interpreter, for one shape of inputs at a time."""

    def __init__(self, path: Path, inputs: Sequence[str], outputs: Sequence[str], threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(str(path), num_threads=threads)
        runner = self._interpreter.get_signature_runner()
        takes, gives = runner.get_input_details(), runner.get_output_details()
        for kind, details, names in (("inputs", takes, inputs), ("outputs", gives, outputs)):
            if details.keys() != set(names):
                raise ValueError(f"{path}: has the {kind} {sorted(details)}, the manifest says {sorted(names)}")
        self._inputs = [int(takes[name]["index"]) for name in inputs]
        self._outputs = [int(gives[name]["index"]) for name in outputs]
        self._shapes: list[Any] = []

    def run(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """Outputs, as copies of their own."""
        shapes = [array.shape for array in inputs]
        try:
            if shapes != self._shapes:
                for index, shape in zip(self._inputs, shapes, strict=True):
                    self._interpreter.resize_tensor_input(index, shape)
                self._interpreter.allocate_tensors()
                self._shapes = shapes
            for index, array in zip(self._inputs, inputs, strict=True):
                self._interpreter.set_tensor(index, array)
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise ModelRejectsError(str(error).strip().partition("\n")[0]) from None
        return [self._interpreter.get_tensor(index) for index in self._outputs]
