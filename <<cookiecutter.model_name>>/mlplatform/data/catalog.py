"""The dataset versions of a store, for people: found by a part of their name, read as a whole, removed when unused."""

import json
from collections.abc import Iterator, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract import targets
from mlplatform.contract.errors import CommandError, ExitCode
from mlplatform.contract.targets import Classes, Target
from mlplatform.data import layers
from mlplatform.data.columns import Array, Column, Texts
from mlplatform.data.dataset import OTHERS, SOURCE, SPLITS, InputSpec, Split
from mlplatform.store import manifest
from mlplatform.store.manifest import Manifest
from mlplatform.store.moments import iso
from mlplatform.store.storage import Storage

# Examples that are in memory at a time, where all are gone through.
BATCH = 8192


class UnknownNameError(CommandError):
    """No dataset version or class, or more than one, is named like this."""

    exit_code = ExitCode.BAD_REQUEST


def versions(storage: Storage) -> list[Manifest]:
    """All dataset versions, oldest first."""
    return manifest.list_artifacts(storage, "datasets")


def find_version(storage: Storage, name: str) -> Manifest:
    """The version with this name or the only one that begins so; `latest` is the newest. Raises UnknownNameError."""
    known = versions(storage)
    fitting = known[-1:] if name == "latest" else [version for version in known if version.id.startswith(name)]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(version.id for version in (fitting or known)[-10:]) or "none"
    said = "names more than one dataset version" if fitting else "names no dataset version"
    raise UnknownNameError(f"{name!r} {said} of {storage.url}; there are: {names}")


@dataclass(frozen=True)
class Dataset:
    """All examples of a version on this machine, numbered through its splits in the order of SPLITS."""

    version: Manifest
    content: Path

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The inputs of the model it was made for."""
        return tuple(map(InputSpec.of_json, self.version.properties["inputs"]))

    @property
    def target(self) -> Target:
        """What is learned from it. Raises ValueError if it is of a kind that is not known here."""
        return targets.of_manifest(self.version.properties) or Classes("label", ())

    @property
    def labels(self) -> list[str]:
        """The labels by their indices, as text; empty where there are none."""
        return list(self.target.labels)

    def truth(self, row: int) -> str:
        """The label, the tags or the value of an example, as text."""
        return self.target.shown(self.column("label", np.array([row]))[0])

    def truths(self) -> list[Any]:
        """What is true of every example, in a form that is the same for the same truth."""
        truth = self.column("label")
        return truth.tolist() if truth.ndim == 1 else [row.tobytes() for row in truth]

    @property
    def others(self) -> bool:
        """Whether examples have properties that are no input."""
        return self._opened["train"].holds(OTHERS)

    @property
    def id_columns(self) -> tuple[str, ...]:
        """The columns that hold ids: of the examples, and of the records that steps made them of, if there are any."""
        return ("id", SOURCE) if self._opened["train"].holds(SOURCE) else ("id",)

    def known_ids(self) -> set[bytes]:
        """All of these ids."""
        return {example_id for name in self.id_columns for example_id in self.column(name).tolist()}

    @cached_property
    def _opened(self) -> dict[str, Split]:
        return {name: Split(self.content, name, []) for name in SPLITS}

    def split(self, name: str) -> Split:
        """One split with its inputs."""
        return Split.of(self.content, name, self.inputs)

    def split_sizes(self) -> dict[str, int]:
        """Examples by split."""
        return {name: int(self.version.properties["splits"][name]["examples"]) for name in SPLITS}

    def __len__(self) -> int:
        return sum(self.split_sizes().values())

    def splits(self) -> NDArray[np.int8]:
        """(n,): index into SPLITS."""
        sizes = list(self.split_sizes().values())
        return np.repeat(np.arange(len(SPLITS), dtype=np.int8), sizes)

    def column(self, name: str, indices: NDArray[np.int64] | None = None) -> Array:
        """(n, *shape): an input by its name, `label`, `id` or OTHERS, of all examples or those with the indices.

        Of lists of any length the bytes of their items, see `value` and `lists`.
        """
        wanted = np.arange(len(self)) if indices is None else indices
        start = 0
        places, pieces = [], []
        for split, size in self.split_sizes().items():
            inside = np.flatnonzero((wanted >= start) & (wanted < start + size))
            if len(inside):
                places.append(inside)
                pieces.append(self._opened[split].column(name, wanted[inside] - start))
            start += size
        if not pieces:
            return np.empty(0, object)
        order = np.argsort(np.concatenate(places), kind="stable")
        return np.asarray(np.concatenate(pieces)[order])

    def input_columns(self, indices: NDArray[np.int64]) -> dict[str, Column]:
        """The inputs of these examples, by their names."""
        columns: dict[str, Column] = {}
        for spec in self.inputs:
            values = self.column(spec.name, indices)
            if spec.length:
                columns[spec.name] = Texts.of(values.tolist())
            else:
                text = spec.dtype == "string"
                columns[spec.name] = Texts.of(values.reshape(-1).tolist(), spec.sizes) if text else values
        return columns

    def value(self, spec: InputSpec, row: int) -> Any:
        """An input of one example, (*shape); text as bytes."""
        value = self.column(spec.name, np.array([row]))[0]
        return spec.unpacked(value) if spec.length else value

    def lists(self, spec: InputSpec) -> Iterator[Array]:
        """An input of lists of any length, of every example: (length, *shape of an item)."""
        for indices in self.batches():
            yield from map(spec.unpacked, self.column(spec.name, indices).tolist())

    def batches(self) -> Iterator[NDArray[np.int64]]:
        """Indices of all examples, BATCH at a time."""
        for start in range(0, len(self), BATCH):
            yield np.arange(start, min(start + BATCH, len(self)))

    def metadata(self) -> list[dict[str, Any]]:
        """Properties that are no input, of every example."""
        if not self.others:
            return [{}] * len(self)
        return [json.loads(text) if text else {} for text in self.column(OTHERS).tolist()]


def fetch(storage: Storage, version: Manifest, work: Path) -> Dataset:
    """A version's files on this machine, verified. Raises ArtifactError or StorageError."""
    return Dataset(*manifest.fetch(storage, f"datasets/{version.id}", work))


def gathered(storage: Storage, names: Set[str]) -> Iterator[str]:
    """Keys gathered/<snapshot>/dataset-<options>.json that record the gathering of versions with these names."""
    for key in list(storage.keys("gathered/")):
        if "/dataset-" in key and json.loads(storage.read(key)).get("version") in names:
            yield key


def used(storage: Storage) -> set[str]:
    """Names of the versions that a published model or a run was made from."""
    models = {str(model.properties.get("dataset", "")) for model in manifest.list_artifacts(storage, "models")}
    runs = set()
    for run in storage.directories("runs/"):
        training = manifest.find(storage, f"runs/{run}/training")
        if training is not None:
            runs.add(str(training.properties.get("dataset", "")))
    return models | runs


def unused(storage: Storage, days: int) -> list[Manifest]:
    """Versions that nothing was made from, apart from the newest and from those made within the last days."""
    wanted = used(storage)
    before = iso(datetime.now(UTC) - timedelta(days=days))
    return [version for version in versions(storage)[:-1] if version.id not in wanted and version.created_at < before]


def remove(storage: Storage, version: Manifest) -> int:
    """Remove a version, and that it was gathered, so that gathering makes it anew. Returns the bytes of its files.

    The manifest goes first: what is killed half-way has left no version behind that looks whole. What other versions
    need stays.
    """
    for key in (*gathered(storage, {version.id}), f"findings/{version.id}.json"):
        storage.delete(key)
    manifest.remove(storage, f"datasets/{version.id}")
    own = sum(entry.bytes for entry in version.files.values())
    return own + layers.release(storage, version.needs.keys())
