"""The distributions that drift is measured against later: part of the model's manifest as `baseline`.

    {"inputs": {"<name>": <histogram>, ...},          every numeric input, over all values of the train split
     "classes": {"<label>": <share>, ...},            what the model predicts on the test split
     "confidence": <histogram>,                       probability of the predicted class on the test split
     "examples": {"train": <count>, "test": <count>}} how many examples these were counted on

A histogram is {"edges": [e1, ..., ek], "shares": [s0, ..., sk]}: s0 is the share of values up to and including e1, s1
of those above it up to and including e2, ..., sk of those above ek; shares add up to 1. Edges are quantiles of the
values, so bins hold about equally many: ten of them, fewer where values repeat. A constant has a bin of its own between
two.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.data.dataset import InputSpec, Split
from mlplatform.training.evaluation import Probabilities, predicted_classes

BINS = 10
# Examples and values of an input that are counted: bounds time and memory, to some 30 MB. Of large inputs, such as
# photographs, a thousand examples with a part of the values of each tell more than few examples with all of them.
EXAMPLES = 100_000
LARGE_EXAMPLES = 1_000
VALUES = 2_000_000


def baseline(
    train: Split, inputs: Sequence[InputSpec], probabilities: Probabilities, labels: Sequence[str]
) -> dict[str, Any]:
    """See the module. probabilities: (examples of the test split, classes)."""
    shares = np.bincount(predicted_classes(probabilities), minlength=len(labels)) / len(probabilities)
    return {
        "inputs": {spec.name: histogram(_values(train, spec)) for spec in inputs if spec.dtype != "string"},
        "classes": dict(zip(labels, shares.tolist(), strict=True)),
        "confidence": histogram(probabilities.max(axis=1)),
        "examples": {"train": len(train), "test": len(probabilities)},
    }


def histogram(values: NDArray[Any]) -> dict[str, list[float]]:
    """Edges and shares of all values of an array of any shape, see the module."""
    flat = np.sort(values.astype(np.float64), axis=None)
    flat = flat[np.isfinite(flat)]
    if not flat.size:
        return {"edges": [], "shares": [1.0]}
    # Quantiles that are values themselves, so that repeated values fall into a bin as a whole.
    edges = np.unique(np.quantile(flat, np.arange(1, BINS) / BINS, method="inverted_cdf"))
    edges = edges[edges < flat[-1]]
    if flat[0] == flat[-1]:
        edges = np.array([np.nextafter(flat[0], -np.inf), flat[0]])
    counts = np.diff(np.searchsorted(flat, edges, side="right"), prepend=0, append=flat.size)
    return {"edges": edges.tolist(), "shares": (counts / flat.size).tolist()}


def _values(train: Split, spec: InputSpec) -> NDArray[Any]:
    """Values of an input, or a fair sample of them: examples lie in the order of a hash, so every n-th is one."""
    size = max(1, math.prod(spec.shape))
    count = min(len(train), EXAMPLES, max(LARGE_EXAMPLES, VALUES // size))
    indices = np.linspace(0, len(train) - 1, count).astype(np.int64)
    kept = min(size, max(1, VALUES // count))
    places = np.sort(np.random.default_rng(0).choice(size, kept, replace=False))
    pieces = np.array_split(indices, -(-count * size // VALUES))
    return np.concatenate([train.column(spec.name, piece).reshape(len(piece), size)[:, places] for piece in pieces])
