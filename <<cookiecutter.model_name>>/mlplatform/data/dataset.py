"""A dataset as its readers see it: the schema of an example, and random access to the splits of a version.

A dataset version holds every distinct example once, sorted by the hash of its id, so the same examples give the same
version whatever files they came in and in which order. Splits are ranges of that hash: an example never changes its
split as data grows.

    datasets/<version>/<content>/<split>/<shard>.<name>.npy      one array per input of numbers, and `label`: the truth
    datasets/<version>/<content>/<split>/<shard>.<name>.bytes.npy, .ends.npy     a text input, `id`: see columns.Texts
    .../<shard>.+others.bytes.npy, ...ends.npy     properties that are no input, as JSON, if any
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.targets.base import Target
from mlplatform.data.columns import BYTES, ENDS, Array, Column, Texts

__all__ = ["SPLITS", "Array", "InputSpec", "Schema", "Split", "column_files", "read_column"]

SPLITS = ("train", "validation", "test")
# Part of every name that depends on how examples are stored: raise it when that changes.
FORMAT = 2

# The column with the properties of a record that are no input, as JSON; no input can have this name.
OTHERS = "+others"

# Keywords of JSON Schema that only describe, and those that hold schemas by name.
ANNOTATIONS = ("title", "description", "$comment", "examples", "default", "deprecated", "readOnly", "writeOnly")
BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
VALUES = ("enum", "const", "required", "dependentRequired")


@dataclass(frozen=True)
class InputSpec:
    """One input of the model: shape of one example, and name of the dtype, NumPy's or `string`."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Schema:
    """The schema of an example: the record's JSON Schema, the inputs taken from it, and what is learned."""

    record: Mapping[str, Any]
    inputs: tuple[InputSpec, ...]
    target: Target

    def fingerprint(self) -> str:
        """16 hex digits that change with everything that changes an example or its truth."""
        return _digest([FORMAT, without_annotations(self.record), *self._inputs_and(self.target.identity())])

    def record_fingerprint(self) -> str:
        """16 hex digits that change with everything that changes how a record is read, labels apart."""
        return _digest(
            [FORMAT, without_annotations(self.record_without_labels()), *self._inputs_and(self.target.text_identity())]
        )

    def record_without_labels(self) -> dict[str, Any]:
        """The record's JSON Schema for records with any label, so that a new label leaves checked files checked."""
        record = dict(self.record)
        label = record.get("properties", {}).get(self.target.name)
        if self.target.labels and isinstance(label, dict) and "enum" in label:
            kept = {name: value for name, value in label.items() if name != "enum"}
            record["properties"] = record["properties"] | {self.target.name: kept}
        return record

    def _inputs_and(self, more: Any) -> list[Any]:
        return [[asdict(spec) for spec in self.inputs], more]


def without_annotations(schema: Any) -> Any:
    """A JSON Schema without titles, descriptions and the like, which change nothing about a record."""
    if isinstance(schema, list):
        return [without_annotations(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    kept = {}
    for key, value in schema.items():
        if key in ANNOTATIONS:
            continue
        if key in BY_NAME and isinstance(value, Mapping):
            kept[key] = {name: without_annotations(item) for name, item in value.items()}
        else:
            kept[key] = value if key in VALUES else without_annotations(value)
    return kept


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


class Split:
    """Random access to one split of a dataset on this machine; arrays stay on disk until an example is used."""

    def __init__(self, content: Path, split: str, inputs: Sequence[str]) -> None:
        shards = sorted(path.name.split(".")[0] for path in (content / split).glob("*.label.npy"))
        names = ["label", "id", *inputs]
        self._columns = {name: [open_column(content / split, shard, name) for shard in shards] for name in names}
        sizes = [len(column) for column in self._columns["label"]]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._inputs = list(inputs)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs."""
        return self._inputs

    def take(self, indices: NDArray[np.int64]) -> tuple[dict[str, Array], Array]:
        """Inputs by name, each (n, *shape), and truths, of the examples with these indices, in their order.

        Labels are (n,), int32; numbers (n, values) and tags (n, labels), float32: outputs of a network have two
        dimensions.
        """
        truth = self.column("label", indices)
        one_number = truth.dtype.kind == "f" and truth.ndim == 1
        return {name: self.column(name, indices) for name in self._inputs}, truth[:, None] if one_number else truth

    def column(self, name: str, indices: NDArray[np.int64]) -> Array:
        """One array (n, *shape): an input by its name, `label`, or `id`. Texts are bytes objects."""
        columns = self._columns[name]
        if len(columns) == 1:
            return _taken(columns[0], indices)
        shards = np.searchsorted(self._starts, indices, side="right") - 1
        chosen = {int(shard): np.flatnonzero(shards == shard) for shard in np.unique(shards)}
        pieces = {shard: _taken(columns[shard], indices[at] - self._starts[shard]) for shard, at in chosen.items()}
        if not pieces:
            return _taken(columns[0], indices)
        dtype = np.result_type(*pieces.values())
        taken = np.empty((len(indices), *next(iter(pieces.values())).shape[1:]), dtype)
        for shard, at in chosen.items():
            taken[at] = pieces[shard]
        return taken


def open_column(directory: Path, shard: str, name: str) -> Column:
    """A column of a shard, mapped into memory; that of an older format holds texts in an array of fixed width."""
    ends = directory / f"{shard}.{name}{ENDS}.npy"
    if ends.is_file():
        return Texts(_mapped(directory / f"{shard}.{name}{BYTES}.npy"), _mapped(ends))
    return _mapped(directory / f"{shard}.{name}.npy")


def column_files(files: Sequence[str], split: str, name: str) -> list[str]:
    """Those files of a dataset version, by their paths, that hold a column of a split, in order."""
    endings = tuple(f".{name}{part}.npy" for part in ("", BYTES, ENDS))
    return sorted(path for path in files if path.startswith(f"{split}/") and path.endswith(endings))


def read_column(paths: Sequence[Path], name: str) -> Array:
    """A whole column (n, *shape) from its files, see `column_files`. Raises ValueError without any."""
    shards = {path.name.split(".")[0]: path.parent for path in paths}
    return np.concatenate([_taken(open_column(shards[shard], shard, name), None) for shard in sorted(shards)])


def _taken(column: Column, indices: NDArray[np.int64] | None) -> Array:
    if isinstance(column, Texts):
        return column.array(indices)
    return np.asarray(column if indices is None else column[indices])


def _mapped(path: Path) -> Array:
    """An array on disk; an empty one cannot be mapped."""
    array: Array = np.load(path, mmap_mode="r" if path.stat().st_size > 128 else None)
    return array
