"""The distributions that drift is measured against later: part of the model's manifest as `baseline`.

    {"inputs": {"<name>": <histogram>, ...},          every numeric input, over all values of the train split; with
                                                      `missing`, their share, of an input whose values may be missing
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
    return {
        "inputs": {spec.name: _described(_values(train, spec), spec) for spec in inputs if spec.dtype != "string"},
        **target.baseline(predictions),
        "examples": {"train": len(train), "test": len(predictions)},
    }


def _described(values: NDArray[Any], spec: InputSpec) -> dict[str, Any]:
    return histogram(values) | ({"missing": float(np.isnan(values).mean())} if spec.nullable else {})


def _values(train: Split, spec: InputSpec) -> NDArray[Any]:
    """Values of an input, or a fair sample of them: examples lie in the order of a hash, so every n-th is one."""
    size = max(1, math.prod(spec.shape))
    count = min(len(train), EXAMPLES, max(LARGE_EXAMPLES, VALUES // size))
    indices = np.linspace(0, len(train) - 1, count).astype(np.int64)
    kept = min(size, max(1, VALUES // count))
    places = np.sort(np.random.default_rng(0).choice(size, kept, replace=False))
    pieces = np.array_split(indices, -(-count * size // VALUES))
    return np.concatenate([train.column(spec.name, piece).reshape(len(piece), size)[:, places] for piece in pieces])
