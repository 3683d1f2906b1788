"""How the inputs of a split are spread, and how far that is from how they were in another one.

    {"inputs": {"<name>": <histogram>, ...},          every numeric input, over all its values; with `missing`, their
                                                      share, of an input whose values may be missing
     "lengths": {"<name>": <histogram>, ...}}         of lists of any length how many items they have, if there are any

mlplatform/contract/drift.py says what a histogram is.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.drift import histogram, psi_of
from mlplatform.contract.lengths import Length
from mlplatform.data.dataset import InputSpec, Split
from mlplatform.store import manifest, releases
from mlplatform.store.manifest import ArtifactError
from mlplatform.store.storage import Storage

log = logging.getLogger(__name__)

# Examples and values of an input that are counted: bounds time and memory, to some 30 MB. Of large inputs, such as
# photographs, a thousand examples with a part of the values of each tell more than few examples with all of them.
EXAMPLES = 100_000
LARGE_EXAMPLES = 1_000
VALUES = 2_000_000


@dataclass(frozen=True)
class Production:
    """The model in production, as data is compared with it. baseline: of its manifest, see training/baseline.py."""

    version: str
    baseline: Mapping[str, Any]


def in_production(storage: Storage) -> Production | None:
    """None if no model is in production, or none that says what it learned from."""
    try:
        version = releases.production(storage)
        model = manifest.find(storage, f"models/{version}") if version else None
    except ArtifactError as error:
        log.warning("data: not compared with the model in production: %s", error)
        return None
    baseline = model.properties.get("baseline") if model else None
    return Production(str(version), baseline) if baseline else None


def describe(split: Split, inputs: Sequence[InputSpec]) -> dict[str, Any]:
    """See the module."""
    histograms, lengths = {}, {}
    for spec, values, counts in _counted(split, inputs):
        missing = {"missing": float(np.isnan(values).mean())} if spec.nullable else {}
        histograms[spec.name] = histogram(values) | missing
        if counts is not None:
            lengths[spec.name] = histogram(counts)
    return {"inputs": histograms, **({"lengths": lengths} if lengths else {})}


def distances(split: Split, inputs: Sequence[InputSpec], described: Mapping[str, Any]) -> dict[str, float]:
    """PSI of each input against what `describe` said of another split, and of lengths as `length of NAME`.

    Of inputs that both have.
    """
    found: dict[str, float] = {}
    known = [spec for spec in inputs if spec.name in described["inputs"]]
    for spec, values, counts in _counted(split, known):
        found[spec.name] = psi_of(values, described["inputs"][spec.name])
        if counts is not None and spec.name in described.get("lengths", {}):
            found[f"length of {spec.name}"] = psi_of(counts, described["lengths"][spec.name])
    return found


def _counted(
    split: Split, inputs: Sequence[InputSpec]
) -> Iterator[tuple[InputSpec, NDArray[Any], NDArray[Any] | None]]:
    """Each numeric input with its values, and of lists of any length with how many items each has."""
    for spec in inputs:
        if spec.length:
            yield spec, *_lists(split, spec, spec.length)
        elif spec.dtype != "string":
            yield spec, _values(split, spec), None


def _values(split: Split, spec: InputSpec) -> NDArray[Any]:
    """Values of an input, or a fair sample of them: examples lie in the order of a hash, so every n-th is one."""
    size = max(1, math.prod(spec.sizes))
    pieces = _pieces(split, size)
    kept = min(size, max(1, VALUES // sum(map(len, pieces))))
    places = np.sort(np.random.default_rng(0).choice(size, kept, replace=False))
    return np.concatenate([split.column(spec.name, piece).reshape(len(piece), size)[:, places] for piece in pieces])


def _lists(split: Split, spec: InputSpec, length: Length) -> tuple[NDArray[Any], NDArray[Any]]:
    """Values of lists of any length, or a fair sample of them, and how many items each list has.

    Counted like the server's, which cannot tell what fills a list up from items at its end that are the same.
    """
    pieces = _pieces(split, max(1, length.most * math.prod(spec.sizes)))
    values, lengths = [], []
    for piece in pieces:
        column = split.column(spec.name, piece)
        held = length.held(column)
        flat = column[held].reshape(-1)
        values.append(flat[:: max(1, len(flat) * len(pieces) // VALUES)])
        lengths.append(np.count_nonzero(held, axis=1))
    return np.concatenate(values), np.concatenate(lengths)


def _pieces(split: Split, size: int) -> list[NDArray[np.int64]]:
    """Indices of the examples that are counted, of values of a size, as many at a time as memory is bounded for."""
    count = min(len(split), EXAMPLES, max(LARGE_EXAMPLES, VALUES // size))
    indices = np.linspace(0, len(split) - 1, count).astype(np.int64)
    return np.array_split(indices, -(-count * size // VALUES))
