"""Writing a dataset version: examples divided into splits, split into shards, counted and fingerprinted."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.data.dataset import SPLITS, Array, Schema
from mlplatform.data.statistics import RunningStatistics

SHARD_BYTES = 32 << 20


@dataclass(frozen=True)
class SplitFractions:
    """Shares of the examples that go to the validation and the test split, 0 to 1; the rest is for training."""

    validation_fraction: float
    test_fraction: float


class DatasetWriter:
    """Writes examples that come in the order of their ids' hashes into shards of each split, and counts them."""

    def __init__(self, directory: Path, schema: Schema, fractions: SplitFractions) -> None:
        self.schema = schema
        self.fractions = fractions
        self._splits = {name: _SplitWriter(directory / name, schema) for name in SPLITS}
        self._statistics = {spec.name: RunningStatistics() for spec in schema.inputs if spec.dtype != "string"}

    def add(self, examples: Array) -> None:
        """Divide examples by their ids' hashes: the lowest go to the test split, then validation, then train."""
        position = examples["high"] / 2.0**64
        test = position < self.fractions.test_fraction
        validation = ~test & (position < self.fractions.test_fraction + self.fractions.validation_fraction)
        train = ~test & ~validation
        for name, chosen in (("test", test), ("validation", validation), ("train", train)):
            if chosen.any():
                self._splits[name].add(examples[chosen])
        if train.any():
            for name, statistics in self._statistics.items():
                statistics.add(examples[f"input_{name}"][train])

    def close(self) -> None:
        """Write what is still in memory."""
        for split in self._splits.values():
            split.flush()

    def splits(self) -> dict[str, Any]:
        """By split: examples and examples per class; for train also minimum, maximum, mean, deviation per input."""
        described: dict[str, Any] = {}
        for name, split in self._splits.items():
            classes = dict(zip(self.schema.labels, split.class_counts.tolist(), strict=True))
            described[name] = {"examples": int(split.class_counts.sum()), "classes": classes}
        described["train"]["inputs"] = {name: figures.summary() for name, figures in self._statistics.items()}
        return described

    def same_inputs(self) -> dict[str, int]:
        """How many examples have the same inputs as another, and how many have those of one in the train split."""
        hashes = {name: np.concatenate([np.empty(0, np.uint64), *split.hashes]) for name, split in self._splits.items()}
        all_hashes = np.concatenate(list(hashes.values()))
        outside = np.concatenate([hashes["validation"], hashes["test"]])
        across = int(np.isin(outside, hashes["train"]).sum())
        return {"same_inputs": len(all_hashes) - len(np.unique(all_hashes)), "across_splits": across}

    def version(self) -> str:
        """12 hex digits that follow from the examples, their division and their meaning, not from their shards."""
        meaning = json.dumps([self.schema.fingerprint(), asdict(self.fractions)], sort_keys=True)
        digests = "".join(self._splits[name].digest.hexdigest() for name in SPLITS)
        return hashlib.sha256(f"{meaning}{digests}".encode()).hexdigest()[:12]


class _SplitWriter:
    """Writes one split in shards."""

    def __init__(self, directory: Path, schema: Schema) -> None:
        self.directory = directory
        self.schema = schema
        self.class_counts = np.zeros(len(schema.labels), np.int64)
        self.digest = hashlib.sha256()
        self.hashes: list[NDArray[np.uint64]] = []
        self._pending: list[Array] = []
        self._shards = 0

    def add(self, examples: Array) -> None:
        self.class_counts += np.bincount(examples["label"], minlength=len(self.schema.labels))
        self.digest.update(examples.tobytes())
        self.hashes.append(_hash_inputs(examples, self.schema))
        self._pending.append(examples)
        if sum(array.nbytes for array in self._pending) >= SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        if not self._pending:
            return
        examples = np.concatenate(self._pending)
        self._pending = []
        self.directory.mkdir(exist_ok=True)
        columns = {"label": examples["label"], "id": examples["id"]}
        columns |= {spec.name: examples[f"input_{spec.name}"] for spec in self.schema.inputs}
        for name, column in columns.items():
            np.save(self.directory / f"{self._shards:05}.{name}.npy", np.ascontiguousarray(column))
        self._shards += 1


def _hash_inputs(examples: Array, schema: Schema) -> NDArray[np.uint64]:
    """64 bits (n,) that follow from the inputs: their bytes by eight times odd factors, summed modulo 2**64."""
    rows = [np.ascontiguousarray(examples[f"input_{spec.name}"]).reshape(len(examples), -1) for spec in schema.inputs]
    content = np.concatenate([row.view(np.uint8) for row in rows], axis=1)
    words = np.pad(content, ((0, 0), (0, -content.shape[1] % 8))).view(np.uint64)
    factors = np.random.default_rng(0).integers(0, 2**63, words.shape[1], np.uint64) * np.uint64(2) + np.uint64(1)
    return np.asarray(words @ factors, np.uint64)
