"""A dataset as its readers see it: the schema of an example, and random access to the splits of a version.

A dataset version holds every distinct example once, sorted by the hash of its id, so the same examples give the same
version whatever files they came in and in which order. Splits are ranges of that hash: an example never changes its
split as data grows.

    datasets/<version>/<content>/<split>/<shard>.<name>.npy      one array per input, `label` (int32) and `id` (bytes)
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "validation", "test")
# Part of every name that depends on how examples are stored: raise it when that changes.
FORMAT = 1

Array = NDArray[Any]


@dataclass(frozen=True)
class InputSpec:
    """One input of the model: shape of one example, and name of the dtype, NumPy's or `string`."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Schema:
    """The schema of an example: the record's JSON Schema, the inputs taken from it, and the labels in order."""

    record: Mapping[str, Any]
    inputs: tuple[InputSpec, ...]
    labels: tuple[str, ...]

    def fingerprint(self) -> str:
        """16 hex digits that change with everything that changes an example."""
        content = json.dumps([FORMAT, asdict(self)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


class Split:
    """Random access to one split of a dataset on this machine; arrays stay on disk until an example is used."""

    def __init__(self, content: Path, split: str, inputs: Sequence[str]) -> None:
        names = [*inputs, "label", "id"]
        shards = sorted(path.name.split(".")[0] for path in (content / split).glob("*.label.npy"))
        self._arrays = {
            name: [np.load(content / split / f"{shard}.{name}.npy", mmap_mode="r") for shard in shards]
            for name in names
        }
        sizes = [len(array) for array in self._arrays["label"]]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._inputs = list(inputs)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs."""
        return self._inputs

    def take(self, indices: NDArray[np.int64]) -> tuple[dict[str, Array], NDArray[np.int32]]:
        """Inputs by name, each (n, *shape), and labels (n,), of the examples with these indices, in their order."""
        return {name: self.column(name, indices) for name in self._inputs}, self.column("label", indices)

    def column(self, name: str, indices: NDArray[np.int64]) -> Array:
        """One array (n, *shape): an input by its name, `label`, or `id`."""
        arrays = self._arrays[name]
        if len(arrays) == 1:
            return np.asarray(arrays[0][indices])
        shards = np.searchsorted(self._starts, indices, side="right") - 1
        dtype = np.result_type(*arrays)
        taken = np.empty((len(indices), *arrays[0].shape[1:]), dtype)
        for shard in np.unique(shards):
            chosen = shards == shard
            taken[chosen] = arrays[shard][indices[chosen] - self._starts[shard]]
        return taken
