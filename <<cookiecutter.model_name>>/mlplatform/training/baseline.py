"""The distributions that drift is measured against later: part of the model's manifest as `baseline`.

    {"inputs": {"<name>": <histogram>, ...},          every numeric input, over all values of the train split; with
                                                      `missing`, their share, of an input whose values may be missing
     "lengths": {"<name>": <histogram>, ...},         of lists of any length how many items they have, if there are any
     ...                                              of the predictions for the test split, what the target watches
     "examples": {"train": <count>, "test": <count>}} how many examples these were counted on

mlplatform/contract/drift.py says what a histogram is.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.drift import histogram
from mlplatform.contract.lengths import Length
from mlplatform.contract.targets import Target
from mlplatform.data.dataset import InputSpec, Split

# Examples and values of an input that are counted: bounds time and memory, to some 30 MB. Of large inputs, such as
# photographs, a thousand examples with a part of the values of each tell more than few examples with all of them.
EXAMPLES = 100_000
LARGE_EXAMPLES = 1_000
VALUES = 2_000_000


def baseline(
    train: Split, inputs: Sequence[InputSpec], predictions: NDArray[np.float32], target: Target
) -> dict[str, Any]:
    """See the module. predictions: (examples of the test split, *row_shape)."""
    histograms, lengths = {}, {}
    for spec in inputs:
        if spec.length:
            values, counts = _lists(train, spec, spec.length)
            histograms[spec.name], lengths[spec.name] = _described(values, spec), histogram(counts)
        elif spec.dtype != "string":
            histograms[spec.name] = _described(_values(train, spec), spec)
    return {
        "inputs": histograms,
        **({"lengths": lengths} if lengths else {}),
        **target.baseline(predictions),
        "examples": {"train": len(train), "test": len(predictions)},
    }


def _described(values: NDArray[Any], spec: InputSpec) -> dict[str, Any]:
    return histogram(values) | ({"missing": float(np.isnan(values).mean())} if spec.nullable else {})


def _values(train: Split, spec: InputSpec) -> NDArray[Any]:
    """Values of an input, or a fair sample of them: examples lie in the order of a hash, so every n-th is one."""
    size = max(1, math.prod(spec.sizes))
    pieces = _pieces(train, size)
    kept = min(size, max(1, VALUES // sum(map(len, pieces))))
    places = np.sort(np.random.default_rng(0).choice(size, kept, replace=False))
    return np.concatenate([train.column(spec.name, piece).reshape(len(piece), size)[:, places] for piece in pieces])


def _lists(train: Split, spec: InputSpec, length: Length) -> tuple[NDArray[Any], NDArray[Any]]:
    """Values of lists of any length, or a fair sample of them, and how many items each list has.

    Counted like the server's, which cannot tell what fills a list up from items at its end that are the same.
    """
    pieces = _pieces(train, max(1, length.most * math.prod(spec.sizes)))
    values, lengths = [], []
    for piece in pieces:
        column = train.column(spec.name, piece)
        held = length.held(column)
        flat = column[held].reshape(-1)
        values.append(flat[:: max(1, len(flat) * len(pieces) // VALUES)])
        lengths.append(np.count_nonzero(held, axis=1))
    return np.concatenate(values), np.concatenate(lengths)


def _pieces(train: Split, size: int) -> list[NDArray[np.int64]]:
    """Indices of the examples that are counted, of values of a size, as many at a time as memory is bounded for."""
    count = min(len(train), EXAMPLES, max(LARGE_EXAMPLES, VALUES // size))
    indices = np.linspace(0, len(train) - 1, count).astype(np.int64)
    return np.array_split(indices, -(-count * size // VALUES))
