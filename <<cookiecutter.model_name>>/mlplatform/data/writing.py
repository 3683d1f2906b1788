"""Writing a dataset version: examples are counted and fingerprinted, those of its new layer written in shards."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.data.columns import (
    Array,
    Column,
    Columns,
    Texts,
    concatenate,
    numbers,
    size,
    stored_arrays,
    take,
    texts,
)
from mlplatform.data.dataset import HASH, OTHERS, SOURCE, SPLITS, InputSpec, Schema
from mlplatform.data.splitting import SplitRule
from mlplatform.data.statistics import RunningStatistics

SHARD_BYTES = 32 << 20


class DatasetWriter:
    """Counts examples that come in the order of their ids' hashes, and writes those of one layer in shards.

    layer: the number of that layer; the examples of those before are there already.
    """

    def __init__(self, directory: Path, schema: Schema, rule: SplitRule, layer: int = 0) -> None:
        self.schema = schema
        self.rule = rule
        self._splits = {name: _SplitWriter(directory / name, schema, layer) for name in SPLITS}
        self._lists = {spec.name: spec for spec in schema.inputs if spec.length}
        self._statistics = {spec.name: RunningStatistics() for spec in schema.inputs if spec.dtype != "string"}

    def add(self, split: int, examples: Columns, layers: NDArray[np.int8]) -> None:
        """Examples of a split by the names of shards, and for each the number of its layer."""
        self._splits[SPLITS[split]].add(examples, layers)
        if SPLITS[split] == "train":
            for name, statistics in self._statistics.items():
                spec = self._lists.get(name)
                statistics.add(spec.unpacked(texts(examples, name).data) if spec else numbers(examples, name))

    def close(self) -> None:
        """Write what is still in memory."""
        for split in self._splits.values():
            split.flush()

    def write_places(self, directory: Path) -> None:
        """Write where the examples of all layers but the first stand, see dataset.py."""
        for name, split in self._splits.items():
            at = np.concatenate([np.empty(0, np.int64), *split.at])
            np.save(directory / f"{name}.at.npy", at.astype(np.int32) if split.examples < 2**31 else at)
            np.save(directory / f"{name}.of.npy", np.concatenate([np.empty(0, np.int8), *split.of]))

    def splits(self) -> dict[str, Any]:
        """By split: examples and what the target says of their truths; for train also figures of each numeric input."""
        described: dict[str, Any] = {}
        for name, split in self._splits.items():
            truth = np.concatenate(split.truths) if split.truths else np.empty(0, np.int32)
            described[name] = {"examples": len(truth), **self.schema.target.described(truth)}
        described["train"]["inputs"] = {name: figures.summary() for name, figures in self._statistics.items()}
        return described

    def same_inputs(self) -> dict[str, int]:
        """How many examples have the same inputs as another, and how many have those of one in the train split."""
        hashes = {name: np.concatenate([np.empty(0, np.uint64), *split.hashes]) for name, split in self._splits.items()}
        all_hashes = np.sort(np.concatenate(list(hashes.values())))
        train = np.sort(hashes["train"])
        # Sorted as well, they are looked up near each other.
        outside = np.sort(np.concatenate([hashes["validation"], hashes["test"]]))
        places = np.searchsorted(train, outside)
        across = int((train[np.minimum(places, len(train) - 1)] == outside).sum()) if len(train) else 0
        return {"same_inputs": int((all_hashes[1:] == all_hashes[:-1]).sum()), "across_splits": across}

    def version(self) -> str:
        """12 hex digits that follow from the examples, their division and their meaning, not from their shards."""
        meaning = json.dumps([self.schema.fingerprint(), self.rule.identity()], sort_keys=True)
        digests = "".join(self._splits[name].digest() for name in SPLITS)
        return hashlib.sha256(f"{meaning}{digests}".encode()).hexdigest()[:12]


class _SplitWriter:
    """Writes one split in shards."""

    def __init__(self, directory: Path, schema: Schema, layer: int) -> None:
        self.directory = directory
        self.schema = schema
        self.layer = layer
        self.examples = 0
        self.at: list[NDArray[np.int64]] = []
        self.of: list[NDArray[np.int8]] = []
        self.truths: list[Array] = []
        self.hashes: list[NDArray[np.uint64]] = []
        self._digests: dict[str, Any] = {}
        self._pending: list[Columns] = []
        self._shards = 0

    def add(self, examples: Columns, layers: NDArray[np.int8]) -> None:
        self.truths.append(numbers(examples, "label"))
        for name, column in examples.items():
            # What follows from the ids names no version.
            for part, array in _content(name, column).items() if name != HASH else ():
                self._digests.setdefault(part, hashlib.sha256()).update(np.ascontiguousarray(array).reshape(-1).data)
        self.hashes.append(hash_inputs(examples, self.schema.inputs))
        later = np.flatnonzero(layers)
        self.at.append(later + self.examples)
        self.of.append(layers[later])
        self.examples += len(layers)
        written = layers == self.layer
        if written.any():
            self._pending.append(examples if written.all() else take(examples, written))
        if sum(map(size, self._pending)) >= SHARD_BYTES:
            self.flush()

    def digest(self) -> str:
        """Hex digits that follow from the examples in order, not from how they came in several additions."""
        content = [(part, digest.hexdigest()) for part, digest in sorted(self._digests.items())]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def flush(self) -> None:
        if not self._pending:
            return
        self.directory.mkdir(exist_ok=True)
        for name, column in concatenate(self._pending).items():
            for part, array in stored_arrays(name, column).items():
                np.save(self.directory / f"{self._shards:05}.{part}.npy", np.ascontiguousarray(array))
        self._pending = []
        self._shards += 1


def as_stored(examples: Columns) -> dict[str, Column]:
    """The columns of ExampleMaker.make by the names of shards, with the first bits of the ids' hashes."""
    names = {"label": "label", "id": "id", "others": OTHERS, SOURCE: SOURCE}
    names |= {name: name.removeprefix("input_") for name in examples if name.startswith("input_")}
    stored = {names[name]: column for name, column in examples.items() if name in names}
    return stored | {HASH: (numbers(examples, "high") >> np.uint64(32)).astype(np.uint32)}


def _content(name: str, column: Column) -> Mapping[str, Array]:
    """What is hashed of a column: of texts their lengths, which do not depend on what stands before them."""
    if isinstance(column, Texts):
        return {f"{name}.bytes": column.data, f"{name}.lengths": column.ends - column.starts()}
    return {name: column}


def hash_inputs(columns: Columns, inputs: Sequence[InputSpec]) -> NDArray[np.uint64]:
    """64 bits (n,) that follow from the inputs among columns: their bytes by up to eight times odd factors, summed
    modulo 2**64.

    Of a text its hash stands for its bytes.
    """
    chance = np.random.default_rng(0)
    total = np.zeros(len(next(iter(columns.values()))), np.uint64)
    for spec in inputs:
        column = columns[spec.name]
        if isinstance(column, Texts):
            digests = b"".join(hashlib.blake2b(t, digest_size=8).digest() for t in column.array().reshape(-1).tolist())
            words = _words(np.frombuffer(digests, np.uint8).reshape(len(column), -1))
        else:
            words = _words(np.ascontiguousarray(column).reshape(len(column), -1).view(np.uint8))
        factors = chance.integers(0, 2**63, words.shape[1], np.uint64) * np.uint64(2) + np.uint64(1)
        total += words[:, 0] * factors[0] if len(factors) == 1 else words @ factors
    return total


def _words(rows: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Rows of bytes as rows of 64 bits, the last of them filled with zeros."""
    width = rows.shape[1]
    if width in (1, 2, 4):
        return rows.view(f"u{width}").astype(np.uint64)
    return np.pad(rows, ((0, 0), (0, -width % 8))).view(np.uint64) if width % 8 else rows.view(np.uint64)
