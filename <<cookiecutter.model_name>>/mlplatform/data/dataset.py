"""Datasets: from checked records to immutable, versioned arrays that are read while training.

A dataset version holds every distinct example once, sorted by the hash of its id, so it is the same whatever files the
examples came in and in which order. Splits are ranges of that hash: an example never changes its split as data grows.
Nothing here holds more than one bucket of examples in memory.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.errors import BadDataError
from mlplatform.data.records import read_rows
from mlplatform.store.manifest import Manifest, fetch, find, publish
from mlplatform.store.storage import Storage

SPLITS = ("train", "validation", "test")
CHUNK_BYTES = 16 << 20
SHARD_BYTES = 32 << 20
# Buckets are held in memory one at a time, in a few copies. More than 256 files open at once is more than some systems
# allow; data of over 4 GB has larger buckets instead.
BUCKET_BYTES = 16 << 20
BUCKETS = 256
# Part of every name that depends on how examples are stored: raise it when that changes.
FORMAT = 1

Array = NDArray[Any]


@dataclass(frozen=True)
class InputSpec:
    """One input of the model: shape of one example, name of the dtype: NumPy's, or `string`."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Schema:
    """What an example is: the record's JSON Schema, the inputs taken from it, and the labels in order."""

    record: Mapping[str, Any]
    inputs: tuple[InputSpec, ...]
    labels: tuple[str, ...]

    def fingerprint(self) -> str:
        """16 hex digits that change with everything that changes an example."""
        content = json.dumps([FORMAT, asdict(self)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Part:
    """One source file, checked: how many rows fit, and why the others do not."""

    name: str
    artifact: str
    rows: int
    problems: int


def part_prefix(file_identity: str, schema: Schema) -> str:
    """Where the checked records of a source file are kept: by its content, so a file is read only once."""
    name = hashlib.sha256(f"{file_identity}\0{schema.fingerprint()}".encode()).hexdigest()[:24]
    return f"parts/{name}"


def check_file(storage: Storage, path: Path, prefix: str, schema: Schema) -> Manifest:
    """Check every record of a source file and publish those that fit as arrays, the others as problems.

    The part holds `<number>.npz` with a structured array `examples` (see `_row_type`), and `problems.jsonl` with `row`
    and `reason` of every record that does not fit.
    """
    existing = find(storage, prefix)
    if existing is not None:
        return existing
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        chunk = _Chunk(schema)
        chunks = good = bad = 0
        with (directory / "problems.jsonl").open("w", encoding="utf-8") as problems:
            for row in read_rows(path, schema.record):
                reason = row.reason or chunk.add(row.record or {})
                if reason:
                    bad += 1
                    problems.write(json.dumps({"row": row.row, "reason": reason}, ensure_ascii=False) + "\n")
                    continue
                good += 1
                if chunk.bytes >= CHUNK_BYTES:
                    np.save(directory / f"{chunks:06}.npy", chunk.take())
                    chunks += 1
        if len(chunk):
            np.save(directory / f"{chunks:06}.npy", chunk.take())
        return publish(storage, prefix, directory, "part", prefix, {"rows": good, "problems": bad})


def read_problems(storage: Storage, prefix: str, work: Path) -> Iterator[tuple[int, str]]:
    """Row and reason of every record of a part that does not fit."""
    _, content = fetch(storage, prefix, work)
    with (content / "problems.jsonl").open(encoding="utf-8") as file:
        for line in file:
            problem = json.loads(line)
            yield problem["row"], problem["reason"]


@dataclass(frozen=True)
class Options:
    """How examples are divided: shares of the validation and the test split."""

    validation_fraction: float
    test_fraction: float


def prepare(
    storage: Storage,
    parts: Sequence[str],
    schema: Schema,
    options: Options,
    work: Path,
    conflicts_allowed: int = 0,
) -> Manifest:
    """Merge parts into a dataset version and publish it as `datasets/<version>`.

    Files: `<split>/<shard>.<name>.npy`, one array per input, `label` (int32, index into the labels) and `id` (bytes).
    The manifest's `duplicates`: examples `repeated` and so left out; `conflicting` ones, left out because another with
    their id was kept; and of those kept, how many have the same inputs as another (`same_inputs`), and how many outside
    the train split have the inputs of one inside (`across_splits`), which flatters the metrics.
    Raises BadDataError if a split would be empty, or if more examples conflict than are allowed.
    """
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as temporary:
        buckets, directory = Path(temporary) / "buckets", Path(temporary) / "dataset"
        buckets.mkdir()
        directory.mkdir()
        row_type = _scatter(storage, parts, buckets, work)
        writer = _SplitWriter(directory, schema, options)
        repeated = 0
        conflicts: list[bytes] = []
        for bucket in sorted(buckets.iterdir()):
            examples = np.fromfile(bucket, row_type)
            kept, again, conflicting = _distinct(examples)
            repeated += again
            conflicts += conflicting
            writer.add(kept)
        writer.close()
        if len(conflicts) > conflicts_allowed:
            shown = ", ".join(example_id.decode() for example_id in conflicts[:10])
            raise BadDataError(
                f"{len(conflicts)} records have the id of another record and other content; "
                f"{conflicts_allowed} more may be left out by maximum_bad_records. Ids: {shown}"
            )
        splits = writer.statistics()
        properties = {
            "schema": schema.fingerprint(),
            "inputs": [asdict(spec) for spec in schema.inputs],
            "labels": list(schema.labels),
            "options": asdict(options),
            "splits": splits,
            "duplicates": {"repeated": repeated, "conflicting": len(conflicts), **writer.same_inputs()},
            "parts": len(parts),
        }
        empty = [name for name, split in splits.items() if not split["examples"]]
        if empty:
            total = sum(split["examples"] for split in splits.values())
            raise BadDataError(
                f"{total} examples are too few to divide: the {' and '.join(empty)} split would be empty; add data, or "
                f"change validation_fraction and test_fraction"
            )
        version = writer.version()
        return publish(storage, f"datasets/{version}", directory, "dataset", version, properties)


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


def _row_type(inputs: Sequence[tuple[InputSpec, str]], id_width: int) -> np.dtype[Any]:
    """One example: 16 bytes of the id's hash, the id, the label's index, and the inputs."""
    fields: list[tuple[Any, ...]] = [("high", "<u8"), ("low", "<u8"), ("id", f"S{id_width}"), ("label", "<i4")]
    return np.dtype(fields + [(f"input_{spec.name}", dtype, spec.shape) for spec, dtype in inputs])


class _Chunk:
    """Examples on their way to disk."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.bytes = 0
        self._labels = {label: index for index, label in enumerate(schema.labels)}
        self._rows: list[tuple[Any, ...]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, record: Mapping[str, Any]) -> str:
        """Add a record that fits the schema; return why it cannot be an example, or nothing."""
        arrays = []
        for spec in self.schema.inputs:
            if spec.name not in record:
                return f"{spec.name}: missing, and the model has this input"
            try:
                array = _to_array(record[spec.name], spec)
            except (ValueError, TypeError, OverflowError) as error:
                return f"{spec.name}: not a {spec.dtype} array of shape {spec.shape}: {error}"
            if array.shape != spec.shape:
                return f"{spec.name}: has shape {array.shape}, the model takes {spec.shape}"
            arrays.append(array)
        label = self._labels.get(record.get("label", ""))
        if label is None:
            return f"label: {record.get('label')!r} is none of model.LABELS"
        # Without an id the inputs are the id: the same inputs twice are one example, whatever they are labelled.
        content = hashlib.sha256(b"\0".join(array.tobytes() for array in arrays)).hexdigest()[:32]
        example_id = str(record.get("id", content)).encode()
        digest = hashlib.sha256(example_id).digest()
        high, low = int.from_bytes(digest[:8]), int.from_bytes(digest[8:16])
        self._rows.append((high, low, example_id, label, *arrays))
        self.bytes += sum(array.nbytes for array in arrays) + len(example_id) + 20
        return ""

    def take(self) -> Array:
        """All examples as a structured array, and start again."""
        id_width = max(len(row[2]) for row in self._rows)
        widths = [
            f"S{max(1, *(row[4 + i].itemsize for row in self._rows))}" if spec.dtype == "string" else spec.dtype
            for i, spec in enumerate(self.schema.inputs)
        ]
        chunk = np.array(self._rows, _row_type(list(zip(self.schema.inputs, widths, strict=True)), id_width))
        self._rows, self.bytes = [], 0
        return chunk


def _to_array(value: Any, spec: InputSpec) -> Array:
    if spec.dtype == "string":
        return np.char.encode(np.asarray(value, dtype=np.str_), "utf-8")
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"holds {array.dtype.name} values")
    cast = array.astype(spec.dtype)
    if cast.dtype.kind in "iu" and not np.array_equal(cast, array):
        raise ValueError(f"{value!r} does not fit")
    return cast


def _scatter(storage: Storage, parts: Sequence[str], buckets: Path, work: Path) -> np.dtype[Any]:
    """Divide the examples of all parts by the first bits of their id's hash into files that fit into memory."""
    contents = [fetch(storage, prefix, work)[1] for prefix in parts]
    chunks = [path for content in contents for path in sorted(content.glob("*.npy"))]
    if not chunks:
        raise BadDataError("the source data holds no record that fits model.RECORD")
    types = [np.load(path, mmap_mode="r").dtype for path in chunks]
    # Text is stored in fields as wide as the longest value; the widest of all parts holds every one of them.
    row_type = types[0] if len(set(types)) == 1 else np.dtype([_widest(types, name) for name in types[0].names or ()])
    size = sum(path.stat().st_size for path in chunks)
    count = min(BUCKETS, max(1, -(-size // BUCKET_BYTES)))
    files = [(buckets / f"{i:04}").open("wb") for i in range(count)]
    try:
        for path in chunks:
            examples = np.load(path).astype(row_type)
            # Multiplying the high bits scales the hash to [0, count): buckets in order are hashes in order.
            bucket = ((examples["high"] >> np.uint64(32)) * np.uint64(count)) >> np.uint64(32)
            for i in np.unique(bucket):
                examples[bucket == i].tofile(files[int(i)])
    finally:
        for file in files:
            file.close()
    return row_type


def _widest(types: Sequence[np.dtype[Any]], name: str) -> tuple[Any, ...]:
    fields = [row_type[name] for row_type in types]
    widest = max(fields, key=lambda dtype: dtype.itemsize)
    return (name, widest.base, widest.shape)


def _distinct(examples: Array) -> tuple[Array, int, list[bytes]]:
    """Examples sorted by id, each id once; how many were repeated, and the ids of those that contradict one kept."""
    examples = examples[np.lexsort((examples["low"], examples["high"]))]
    same_id = (examples["high"][1:] == examples["high"][:-1]) & (examples["low"][1:] == examples["low"][:-1])
    kept = np.ones(len(examples), dtype=bool)
    repeated = 0
    conflicting: list[bytes] = []
    groups = np.flatnonzero(np.diff(np.concatenate([[0], same_id.view(np.int8), [0]]))).reshape(-1, 2)
    for first, last in groups:
        content = [examples[i].tobytes() for i in range(first, last + 1)]
        # Of several versions of an example the smallest bytes win: that does not depend on the order of arrival.
        chosen = content.index(min(content))
        kept[first : last + 1] = False
        kept[first + chosen] = True
        repeated += content.count(content[chosen]) - 1
        conflicting += [bytes(examples["id"][first])] * (len(content) - content.count(content[chosen]))
    return examples[kept], repeated, conflicting


class _SplitWriter:
    """Writes examples that come in the order of their ids' hashes into shards of each split, and counts."""

    def __init__(self, directory: Path, schema: Schema, options: Options) -> None:
        self.directory = directory
        self.schema = schema
        self.options = options
        self._pending: dict[str, list[Array]] = {split: [] for split in SPLITS}
        self._shards = dict.fromkeys(SPLITS, 0)
        self._counts = {split: np.zeros(len(schema.labels), np.int64) for split in SPLITS}
        self._digests = {split: hashlib.sha256() for split in SPLITS}
        self._hashes: dict[str, list[NDArray[np.uint64]]] = {split: [] for split in SPLITS}
        self._moments = {spec.name: _Moments() for spec in schema.inputs if spec.dtype != "string"}

    def add(self, examples: Array) -> None:
        """Divide examples by their ids' hashes: the lowest go to the test split, then validation, then train."""
        position = examples["high"] / 2.0**64
        test = position < self.options.test_fraction
        validation = ~test & (position < self.options.test_fraction + self.options.validation_fraction)
        for split, chosen in (("test", test), ("validation", validation), ("train", ~test & ~validation)):
            taken = examples[chosen]
            if len(taken):
                self._pending[split].append(taken)
                self._digests[split].update(taken.tobytes())
                self._hashes[split].append(_hash_inputs(taken, self.schema))
                self._counts[split] += np.bincount(taken["label"], minlength=len(self.schema.labels))
                if split == "train":
                    for name, moments in self._moments.items():
                        moments.add(taken[f"input_{name}"])
            if sum(array.nbytes for array in self._pending[split]) >= SHARD_BYTES:
                self._write(split)

    def close(self) -> None:
        """Write what is left."""
        for split in SPLITS:
            if self._pending[split]:
                self._write(split)

    def statistics(self) -> dict[str, Any]:
        """By split: examples and examples per class; for train also minimum, maximum, mean, deviation per input."""
        found: dict[str, Any] = {}
        for split, counts in self._counts.items():
            classes = dict(zip(self.schema.labels, counts.tolist(), strict=True))
            found[split] = {"examples": int(counts.sum()), "classes": classes}
        found["train"]["inputs"] = {name: moments.summary() for name, moments in self._moments.items()}
        return found

    def same_inputs(self) -> dict[str, int]:
        """How many examples have the same inputs as another, and how many have those of one in the train split."""
        hashes = {split: np.concatenate([np.empty(0, np.uint64), *found]) for split, found in self._hashes.items()}
        everything = np.concatenate(list(hashes.values()))
        outside = np.concatenate([hashes["validation"], hashes["test"]])
        across = int(np.isin(outside, hashes["train"]).sum())
        return {"same_inputs": len(everything) - len(np.unique(everything)), "across_splits": across}

    def version(self) -> str:
        """12 hex digits that follow from the examples, their division and their meaning, not from their shards."""
        meaning = json.dumps([self.schema.fingerprint(), asdict(self.options)], sort_keys=True)
        digests = "".join(self._digests[split].hexdigest() for split in SPLITS)
        return hashlib.sha256(f"{meaning}{digests}".encode()).hexdigest()[:12]

    def _write(self, split: str) -> None:
        examples = np.concatenate(self._pending[split])
        self._pending[split] = []
        directory = self.directory / split
        directory.mkdir(exist_ok=True)
        shard = f"{self._shards[split]:05}"
        self._shards[split] += 1
        columns = {"label": examples["label"], "id": examples["id"]}
        columns |= {spec.name: examples[f"input_{spec.name}"] for spec in self.schema.inputs}
        for name, column in columns.items():
            np.save(directory / f"{shard}.{name}.npy", np.ascontiguousarray(column))


def _hash_inputs(examples: Array, schema: Schema) -> NDArray[np.uint64]:
    """64 bits (n,) that follow from the inputs: their bytes by eight times odd factors, summed modulo 2**64."""
    rows = [np.ascontiguousarray(examples[f"input_{spec.name}"]).reshape(len(examples), -1) for spec in schema.inputs]
    content = np.concatenate([row.view(np.uint8) for row in rows], axis=1)
    words = np.pad(content, ((0, 0), (0, -content.shape[1] % 8))).view(np.uint64)
    factors = np.random.default_rng(0).integers(0, 2**63, words.shape[1], np.uint64) * np.uint64(2) + np.uint64(1)
    return np.asarray(words @ factors, np.uint64)


@dataclass
class _Moments:
    """Running minimum, maximum, mean and deviation of all values of an input."""

    count: int = 0
    minimum: float = field(default=float("inf"))
    maximum: float = field(default=float("-inf"))
    total: float = 0.0
    squares: float = 0.0

    def add(self, values: Array) -> None:
        wide = values.astype(np.float64)
        self.count += wide.size
        self.minimum = min(self.minimum, float(wide.min()))
        self.maximum = max(self.maximum, float(wide.max()))
        self.total += float(wide.sum())
        self.squares += float(np.square(wide).sum())

    def summary(self) -> dict[str, float]:
        if not self.count:
            return {}
        mean = self.total / self.count
        deviation = max(0.0, self.squares / self.count - mean * mean) ** 0.5
        return {"minimum": self.minimum, "maximum": self.maximum, "mean": mean, "deviation": deviation}
