"""A dataset as its readers see it: the schema of an example, and random access to the splits of a version.

A dataset version holds every distinct example once, sorted by the hash of its id, so the same examples give the same
version whatever files they came in and in which order. Splits are ranges of that hash: an example never changes its
split as data grows.

Examples lie in layers, sorted in each, so that versions share what they have in common. Which layers there are follows
from how the data grew; a reader sees all examples in one order, whatever the layers.

    layers/<name>/<content>/<split>/<shard>.<name>.npy      one array per input of numbers, and `label`: the truth
    layers/<name>/<content>/<split>/<shard>.<name>.bytes.npy, .ends.npy     a text input, `id`: see columns.Texts;
                                                            of lists of any length the bytes of their items in place of
                                                            texts, so that a short one costs its own length only
    .../<shard>.+others.bytes.npy, ...ends.npy     properties that are no input, as JSON, if any
    .../<shard>.+source.bytes.npy, ...ends.npy     ids of the records that `model.STEPS` made the examples of, if any
    .../<shard>.+hash.npy     the first 32 bits of the ids' SHA-256
    datasets/<version>/<content>/layers.json     directories of the layers, below the root of the store
    datasets/<version>/<content>/<split>.at.npy, .of.npy     where the examples of the second layer and the others
                                                             stand among all in order, and the layer of each, from 1

A version from before 0.3.0 holds the shards itself, without +hash.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.lengths import Length
from mlplatform.contract.missing import Sentinel
from mlplatform.contract.targets.base import Target
from mlplatform.data.columns import BYTES, ENDS, Array, Column, Texts, concatenate
from mlplatform.data.steps import Step

__all__ = ["SPLITS", "Array", "InputSpec", "Schema", "Split", "column_files"]

SPLITS = ("train", "validation", "test")
# Part of every name that depends on how examples are stored: raise it when that changes.
FORMAT = 2

# Columns with the properties of a record that are no input, as JSON, with the id of the record that steps made the
# example of, and with bits of the id's hash; no input can have these names.
OTHERS = "+others"
SOURCE = "+source"
HASH = "+hash"
LAYERS = "layers.json"
# Examples of all layers but the first are held in memory up to this size: one array is read faster than several.
JOINED_BYTES = 64 << 20

# Keywords of JSON Schema that only describe, and those that hold schemas by name.
ANNOTATIONS = ("title", "description", "$comment", "examples", "default", "deprecated", "readOnly", "writeOnly")
BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
VALUES = ("enum", "const", "required", "dependentRequired")


@dataclass(frozen=True)
class InputSpec:
    """One input of the model: shape of one example, and name of the dtype, NumPy's or `string`.

    nullable: whether `model.RECORD` lets its numbers be missing, which are NaN then; of floats only.
    missing: what stands for a value that is missing in place of NaN, of any dtype; None if nothing does.
    media_type: what its bytes are, which records hold in base64, such as `image/jpeg`; empty for text and numbers.
    length: of lists of numbers of any length, whose shape begins with None; None if the shape is fixed.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    nullable: bool = False
    media_type: str = ""
    length: Length | None = None
    missing: Sentinel = None

    @property
    def optional(self) -> bool:
        """Whether its values may be missing."""
        return self.nullable or self.missing is not None

    @property
    def gap(self) -> str | float | bool:
        """What stands for a value that is missing."""
        return math.nan if self.missing is None else self.missing

    def to_json(self) -> dict[str, Any]:
        """As manifests hold it: of what an input is not, such as missing or bytes, nothing is said."""
        described: dict[str, Any] = {"name": self.name, "shape": list(self.shape), "dtype": self.dtype}
        described |= {"nullable": True} if self.nullable else {}
        described |= {"media_type": self.media_type} if self.media_type else {}
        described |= {} if self.missing is None else {"missing": self.missing}
        return described | ({"length": self.length.to_json()} if self.length else {})

    @classmethod
    def of_json(cls, described: Mapping[str, Any]) -> "InputSpec":
        """From what `to_json` gave."""
        shape = tuple(described["shape"])
        about = bool(described.get("nullable")), described.get("media_type", "")
        length = Length.of_json(described.get("length"))
        return cls(described["name"], shape, described["dtype"], *about, length, described.get("missing"))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Its shape; of lists of any length that of one item."""
        return tuple(size for size in self.shape if size is not None)

    @property
    def item(self) -> "InputSpec":
        """One item of lists of any length, as an input of its own."""
        return replace(self, shape=self.sizes, length=None)

    def unpacked(self, content: bytes | Array) -> Array:
        """(length, *shape of an item): a list of any length, from the bytes of its items."""
        return np.frombuffer(content, self.dtype).reshape(-1, *self.sizes)

    def filled_up(self, rows: Sequence[Array]) -> Array:
        """Several examples, each (*shape), as one array (n, *shape): lists of any length as long as the longest."""
        if self.length is None:
            return np.stack(rows)
        return self.length.joined([np.empty((0, 0, *self.sizes), self.dtype), *(row[np.newaxis] for row in rows)])


@dataclass(frozen=True)
class Schema:
    """The schema of an example: the record's JSON Schema, the inputs taken from it, and what is learned.

    steps: what is done with the records of a source first.
    """

    record: Mapping[str, Any]
    inputs: tuple[InputSpec, ...]
    target: Target
    steps: tuple[Step, ...] = ()

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
        steps = [[step.identity for step in self.steps]] if self.steps else []
        return [[spec.to_json() for spec in self.inputs], more, *steps]


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
    """Random access to one split of a dataset on this machine; arrays stay on disk until an example is used.

    lists: of the inputs those of any length. What asks for several examples gets them filled up to the longest. target:
    what `take` gives the truths of; None: one of which they are as stored.
    """

    def __init__(
        self,
        content: Path,
        split: str,
        inputs: Sequence[str],
        target: Target | None = None,
        lists: Sequence[InputSpec] = (),
    ) -> None:
        self._target = target
        directories = [directory / split for directory in layer_directories(content)]
        self._shards = [[(directory, shard) for shard in shard_names(directory)] for directory in directories]
        self._inputs = list(inputs)
        self.lists = {spec.name: spec for spec in lists}
        self._columns: dict[str, list[Column]] = {}
        labels = [[len(open_column(*shard, "label")) for shard in shards] for shards in self._shards]
        self._joined = len(labels) > 1 and self._later_bytes() <= JOINED_BYTES
        sizes = [*labels[0], sum(map(sum, labels[1:]))] if self._joined else [n for layer in labels for n in layer]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._at, self._rows = _later_rows(content, split, [sum(layer) for layer in labels])

    @classmethod
    def of(cls, content: Path, split: str, inputs: Sequence[InputSpec], target: Target | None = None) -> "Split":
        """A split with these inputs."""
        return cls(content, split, [spec.name for spec in inputs], target, [spec for spec in inputs if spec.length])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs."""
        return self._inputs

    def holds(self, name: str) -> bool:
        """Whether it has a column with this name."""
        shards = [shard for layer in self._shards for shard in layer][:1]
        return any(bool(_column_paths(*shard, name)) for shard in shards)

    def take(self, indices: NDArray[np.int64]) -> tuple[dict[str, Array], Any]:
        """Inputs by name, each (n, *shape), and truths, of the examples with these indices, in their order.

        Lists of any length are filled up to the longest among them.

        Labels are (n,), int32; numbers (n, values) and tags (n, labels), float32: outputs of a network have two
        dimensions. Those of several targets are a dict by their names.
        """
        places = self._places(indices)
        stored = self._taken("label", places, len(indices))
        truth = self._target.for_loss(stored) if self._target else stored
        inputs = {name: self._filled_up(name, self._taken(name, places, len(indices))) for name in self._inputs}
        if isinstance(truth, dict):
            return inputs, {name: _with_values(of) for name, of in truth.items()}
        return inputs, _with_values(truth)

    def column(self, name: str, indices: NDArray[np.int64] | None = None) -> Array:
        """One array (n, *shape): an input by its name, `label`, or `id`; without indices of all examples.

        Texts are bytes objects. Lists of any length are filled up to the longest among them.
        """
        if indices is None:
            indices = np.arange(len(self))
        return self._filled_up(name, self._taken(name, self._places(indices), len(indices)))

    def rows(self, name: str, indices: NDArray[np.int64]) -> list[Array]:
        """An input of each of these examples by itself, (*shape): lists of any length as long as they are."""
        column = self._taken(name, self._places(indices), len(indices))
        return list(map(self.lists[name].unpacked, column.tolist())) if name in self.lists else list(column)

    def item_counts(self) -> NDArray[np.int64]:
        """(n,): how many items the lists of any length of each example have together."""
        indices = np.arange(len(self))
        counts = np.zeros(len(self), np.int64)
        for name, spec in self.lists.items():
            sizes = self._taken(name, self._places(indices), len(indices), _sizes)
            counts += sizes // (np.dtype(spec.dtype).itemsize * math.prod(spec.sizes))
        return counts

    def _filled_up(self, name: str, column: Array) -> Array:
        """A column as one array of numbers, where it is of lists of any length."""
        spec = self.lists.get(name)
        return column if spec is None else spec.filled_up(list(map(spec.unpacked, column.tolist())))

    def _places(self, indices: NDArray[np.int64]) -> list["_Place"]:
        rows = indices
        if len(self._at):
            # So many examples of later layers stand before each; the others are the first layer's.
            before = np.searchsorted(self._at, indices)
            nearest = np.minimum(before, len(self._at) - 1)
            rows = np.where(self._at[nearest] == indices, self._rows[nearest], indices - before)
        if len(self._starts) == 2:
            return [_Place(0, None, rows)]
        shards = np.searchsorted(self._starts, rows, side="right") - 1
        chosen = {int(shard): np.flatnonzero(shards == shard) for shard in np.unique(shards)} or {0: shards}
        return [_Place(shard, at, rows[at] - self._starts[shard]) for shard, at in chosen.items()]

    def _taken(
        self,
        name: str,
        places: Sequence["_Place"],
        count: int,
        of: Callable[[Column, NDArray[np.int64]], Array] | None = None,
    ) -> Array:
        """What `of` gives for the rows of a column, in the order asked for; None: their values."""
        columns = self._opened(name)
        pieces = [(of or _taken)(columns[place.shard], place.rows) for place in places]
        if len(pieces) == 1:
            return pieces[0]
        taken = np.empty((count, *pieces[0].shape[1:]), np.result_type(*pieces))
        for place, piece in zip(places, pieces, strict=True):
            taken[place.at] = piece
        return taken

    def _opened(self, name: str) -> list[Column]:
        if name not in self._columns:
            layers = [[open_column(*shard, name) for shard in shards] for shards in self._shards]
            later = [column for columns in layers[1:] for column in columns]
            if self._joined and later:
                later = [concatenate([{name: column} for column in later])[name]]
            self._columns[name] = [*layers[0], *later]
        return self._columns[name]

    def _later_bytes(self) -> int:
        directories = {directory for shards in self._shards[1:] for directory, _ in shards}
        return sum(path.stat().st_size for directory in directories for path in directory.iterdir())


@dataclass(frozen=True)
class _Place:
    """Rows of one shard, and their places among those that are asked for; None if they are all, in order."""

    shard: int
    at: NDArray[np.int64] | None
    rows: NDArray[np.int64]


def layer_directories(content: Path) -> list[Path]:
    """Where the layers of a version lie; one from before 0.3.0 is its only layer."""
    listed = content / LAYERS
    if not listed.is_file():
        return [content]
    return [content.parents[2] / place for place in json.loads(listed.read_bytes())]


def _later_rows(content: Path, split: str, sizes: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of the examples of all layers but the first: where they stand in the split's order, and their rows within the
    layers one after the other. sizes: examples by layer.
    """
    if len(sizes) == 1:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    at, of = (np.load(content / f"{split}.{name}.npy") for name in ("at", "of"))
    rows = np.empty(len(at), np.int64)
    starts = np.cumsum([0, *sizes])
    for layer in range(1, len(sizes)):
        rows[of == layer] = np.arange(starts[layer], starts[layer + 1])
    return at.astype(np.int64), rows


def shard_names(directory: Path) -> list[str]:
    """The shards of a layer's split, in order."""
    return sorted({path.name.split(".")[0] for path in directory.glob("*.label.npy")})


def open_shard(directory: Path, shard: str) -> dict[str, Column]:
    """All columns of a shard by their names, mapped into memory."""
    names = sorted(path.name for path in directory.glob(f"{shard}.*.npy"))
    columns = {re.sub(rf"({re.escape(BYTES)}|{re.escape(ENDS)})?\.npy$", "", name.split(".", 1)[1]) for name in names}
    return {name: open_column(directory, shard, name) for name in columns}


def open_column(directory: Path, shard: str, name: str) -> Column:
    """A column of a shard, mapped into memory; that of an older format holds texts in an array of fixed width."""
    ends = directory / f"{shard}.{name}{ENDS}.npy"
    if ends.is_file():
        return Texts(_mapped(directory / f"{shard}.{name}{BYTES}.npy"), _mapped(ends))
    return _mapped(directory / f"{shard}.{name}.npy")


def column_files(files: Iterable[str], split: str, names: Collection[str]) -> list[str]:
    """Those files of a layer, by their paths, that hold these columns of a split."""
    endings = tuple(f".{name}{part}.npy" for name in names for part in ("", BYTES, ENDS))
    return sorted(path for path in files if path.startswith(f"{split}/") and path.endswith(endings))


def _column_paths(directory: Path, shard: str, name: str) -> list[Path]:
    paths = [directory / f"{shard}.{name}{part}.npy" for part in ("", BYTES, ENDS)]
    return [path for path in paths if path.is_file()]


def _taken(column: Column, indices: NDArray[np.int64]) -> Array:
    return column.array(indices) if isinstance(column, Texts) else np.asarray(column[indices])


def _with_values(truth: Array) -> Array:
    """Single numbers (n,) as (n, 1)."""
    return truth[:, None] if truth.dtype.kind == "f" and truth.ndim == 1 else truth


def _sizes(column: Column, indices: NDArray[np.int64]) -> Array:
    """Bytes of the texts, or of the items of the lists, of these examples."""
    if not isinstance(column, Texts):
        raise TypeError("the column holds neither texts nor lists of any length")
    return column.sizes(indices)


def _mapped(path: Path) -> Array:
    """An array on disk; an empty one cannot be mapped."""
    array: Array = np.load(path, mmap_mode="r" if path.stat().st_size > 128 else None)
    return array
