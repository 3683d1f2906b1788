"""A loaded model as a function of arrays."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Run = Callable[[Sequence[Array]], Sequence[Array]]
"""Computes outputs of (rows, ...) from inputs of (rows, ...). Raises ModelRejectsError for values it cannot take."""

BATCHES = (1, 2, 4, 8, 16)
"""Numbers of rows at which a model is tried before it is trusted; a larger batch takes the same paths."""

DTYPES = (
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64", "string"),
)
"""TensorFlow's names of the types that the server's protocols can carry."""


def joined(outputs: Sequence[Array]) -> Array:
    """One output as it is, of several the values of each row beside each other, (rows, values)."""
    if len(outputs) == 1:
        return outputs[0]
    return np.concatenate([output.reshape(len(output), -1) for output in outputs], axis=1)


class ModelRejectsError(Exception):
    """The model cannot compute these values, such as an index beyond an embedding; the message is the model's own."""
