"""Writing a dataset version: examples divided into splits, split into shards, counted and fingerprinted."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.data.columns import Array, Column, Columns, Texts, concatenate, numbers, size, stored_arrays, take
from mlplatform.data.dataset import OTHERS, SPLITS, Schema
from mlplatform.data.splitting import SplitRule
from mlplatform.data.statistics import RunningStatistics

SHARD_BYTES = 32 << 20


class DatasetWriter:
    """Writes examples that come in the order of their ids' hashes into shards of each split, and counts them."""

    def __init__(
        self, directory: Path, schema: Schema, rule: SplitRule, bounds: NDArray[np.float64] | None = None
    ) -> None:
        self.schema = schema
        self.rule = rule
        self._bounds = bounds
        self._splits = {name: _SplitWriter(directory / name, schema) for name in SPLITS}
        self._statistics = {spec.name: RunningStatistics() for spec in schema.inputs if spec.dtype != "string"}

    def add(self, examples: Columns) -> None:
        """Divide examples into splits. Raises BadDataError if the rule cannot say where one belongs."""
        splits = self.rule.assign(examples, self._bounds)
        for index, name in enumerate(SPLITS):
            if (chosen := splits == index).any():
                self._splits[name].add(take(examples, chosen))
        train = splits == SPLITS.index("train")
        if train.any():
            for name, statistics in self._statistics.items():
                statistics.add(numbers(examples, f"input_{name}")[train])

    def close(self) -> None:
        """Write what is still in memory."""
        for split in self._splits.values():
            split.flush()

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
        all_hashes = np.concatenate(list(hashes.values()))
        outside, train = np.concatenate([hashes["validation"], hashes["test"]]), np.sort(hashes["train"])
        across = int((np.searchsorted(train, outside, "right") > np.searchsorted(train, outside)).sum())
        all_hashes.sort()
        return {"same_inputs": int((all_hashes[1:] == all_hashes[:-1]).sum()), "across_splits": across}

    def version(self) -> str:
        """12 hex digits that follow from the examples, their division and their meaning, not from their shards."""
        meaning = json.dumps([self.schema.fingerprint(), self.rule.identity()], sort_keys=True)
        digests = "".join(self._splits[name].digest() for name in SPLITS)
        return hashlib.sha256(f"{meaning}{digests}".encode()).hexdigest()[:12]


class _SplitWriter:
    """Writes one split in shards."""

    def __init__(self, directory: Path, schema: Schema) -> None:
        self.directory = directory
        self.schema = schema
        self.truths: list[Array] = []
        self.hashes: list[NDArray[np.uint64]] = []
        self._digests: dict[str, Any] = {}
        self._pending: list[Columns] = []
        self._shards = 0

    def add(self, examples: Columns) -> None:
        self.truths.append(numbers(examples, "label"))
        columns = _stored(examples)
        for name, column in columns.items():
            for part, array in _content(name, column).items():
                self._digests.setdefault(part, hashlib.sha256()).update(np.ascontiguousarray(array).reshape(-1).data)
        self.hashes.append(hash_inputs(examples, self.schema))
        self._pending.append(columns)
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


def _stored(examples: Columns) -> dict[str, Column]:
    """The columns of a shard by their names there."""
    names = {"label": "label", "id": "id", "others": OTHERS}
    names |= {name: name.removeprefix("input_") for name in examples if name.startswith("input_")}
    return {names[name]: column for name, column in examples.items() if name in names}


def _content(name: str, column: Column) -> Mapping[str, Array]:
    """What is hashed of a column: of texts their lengths, which do not depend on what stands before them."""
    if isinstance(column, Texts):
        return {f"{name}.bytes": column.data, f"{name}.lengths": column.ends - column.starts()}
    return {name: column}


def hash_inputs(examples: Columns, schema: Schema) -> NDArray[np.uint64]:
    """64 bits (n,) that follow from the inputs: their bytes by eight times odd factors, summed modulo 2**64.

    Of a text its hash stands for its bytes.
    """
    rows = []
    for spec in schema.inputs:
        column = examples[f"input_{spec.name}"]
        if isinstance(column, Texts):
            digests = b"".join(hashlib.blake2b(t, digest_size=8).digest() for t in column.array().reshape(-1).tolist())
            rows.append(np.frombuffer(digests, np.uint8).reshape(len(column), -1))
        else:
            rows.append(np.ascontiguousarray(column).reshape(len(column), -1).view(np.uint8))
    content = np.concatenate(rows, axis=1)
    words = np.pad(content, ((0, 0), (0, -content.shape[1] % 8))).view(np.uint64)
    factors = np.random.default_rng(0).integers(0, 2**63, words.shape[1], np.uint64) * np.uint64(2) + np.uint64(1)
    return np.asarray(words @ factors, np.uint64)
