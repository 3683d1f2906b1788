"""Layers: what dataset versions are made of. Versions of one growing source share them, so growth writes what is new.

    layers/<name>/<content>/<split>/<shard>.<column>.npy      examples in the order of their ids' hashes, see dataset.py

A layer's name follows from the version that it was written for and the layers that this one took over. It is removed
with the last version that needs it.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from mlplatform.data.columns import Array, Columns, numbers, part
from mlplatform.data.dataset import (
    HASH,
    LAYERS,
    SPLITS,
    Split,
    column_files,
    layer_directories,
    open_column,
    open_shard,
    shard_names,
)
from mlplatform.store import manifest
from mlplatform.store.manifest import Manifest
from mlplatform.store.moments import iso
from mlplatform.store.storage import Storage

PREFIX = "layers"
# A version is written anew when more than this share of its examples lies outside its first layer, and the layers after
# the first become one when there are too many: each of them costs a reader time.
LARGEST_SHARE = 0.25
MOST_LAYERS = 8
# What a build that was killed has left is kept that long: it may be another one's that is running.
ORPHAN_HOURS = 24


@dataclass(frozen=True)
class Layer:
    """A layer in the store. directory: its files on this machine."""

    prefix: str
    content: str
    bytes: int
    directory: Path

    def examples(self, split: str) -> int:
        """How many examples of a split it holds."""
        directory = self.directory / split
        return sum(len(open_column(directory, shard, HASH)) for shard in shard_names(directory))


class Run:
    """The examples of a layer's split in order, piece by piece; only the shard at hand is open."""

    def __init__(self, layer: Layer, split: str) -> None:
        self._directory = layer.directory / split
        self._shards = iter(shard_names(self._directory))
        self._columns: Columns = {}
        self._at = 0

    def before(self, end: int) -> Iterator[Columns]:
        """Those not given yet whose ids' hashes begin with 32 bits below `end`, by the names of shards."""
        while True:
            if not self._columns:
                shard = next(self._shards, None)
                if shard is None:
                    return
                self._columns, self._at = open_shard(self._directory, shard), 0
            hashes = numbers(self._columns, HASH)
            last = len(hashes) if end > hashes[-1] else int(np.searchsorted(hashes, hashes.dtype.type(end)))
            if last > self._at:
                yield part(self._columns, self._at, last)
            self._at = last
            if last < len(hashes):
                return
            self._columns = {}


def layers_of(version: Manifest, content: Path) -> list[Layer]:
    """The layers of a version that was fetched, in order; none of one from before 0.3.0."""
    if not version.needs:
        return []
    found = {f"{PREFIX}/{directory.parent.name}": directory for directory in layer_directories(content)}
    return [
        Layer(prefix, directory.name, version.needs[prefix]["bytes"], directory) for prefix, directory in found.items()
    ]


def taken_over(layers: Sequence[Layer], coming: int) -> Sequence[Layer]:
    """Those of a version's layers that one with so many more examples takes over; the others it writes anew."""
    sizes = [sum(layer.examples(split) for split in SPLITS) for layer in layers]
    if not layers or sum(sizes[1:]) + coming > LARGEST_SHARE * sizes[0]:
        return []
    return layers if len(layers) < MOST_LAYERS else layers[:1]


def publish(
    storage: Storage, version: str, kept: Sequence[Layer], written: Path, own: Path, properties: dict[str, object]
) -> Manifest | None:
    """Publish a version of layers that are there and one that was written; None if one of them was removed meanwhile.

    written: the files of the new layer; own: those of the version itself, to which the list of layers is added.
    """
    existing = manifest.find(storage, f"datasets/{version}")
    if existing is None:
        suffix = hashlib.sha256("\n".join(layer.prefix for layer in kept).encode()).hexdigest()[:6]
        name = f"{version}-{suffix}" if kept else version
        layer = manifest.publish(storage, f"{PREFIX}/{name}", written, "layer", name, {})
        places = [(layer.prefix, layer.content, layer.bytes) for layer in kept]
        places.append((f"{PREFIX}/{name}", layer.content, layer.size))
        (own / LAYERS).write_text(json.dumps([f"{prefix}/{content}" for prefix, content, _ in places], indent=1))
        needs = {prefix: {"content": content, "bytes": size} for prefix, content, size in places}
        existing = manifest.publish(
            storage, f"datasets/{version}", own, "dataset", version, properties | {manifest.NEEDS: needs}
        )
    if all(storage.exists(f"{prefix}/{manifest.MANIFEST}") for prefix in existing.needs):
        return existing
    manifest.remove(storage, f"datasets/{version}")
    return None


def release(storage: Storage, layers: Collection[str]) -> int:
    """Remove those layers, by their prefixes, that no version needs; returns their bytes.

    A version may be published at the same time. It looks whether its layers are there once its manifest is, and this
    looks for versions once the manifests of layers are gone. So one of the two notices.
    """
    found = {}
    for prefix in sorted(set(layers) - _needed(storage)):
        layer = manifest.find(storage, prefix)
        if layer is not None:
            found[prefix] = layer
            storage.delete(f"{prefix}/{manifest.MANIFEST}")
    needed = _needed(storage) if found else set()
    for prefix in needed & found.keys():
        storage.create(f"{prefix}/{manifest.MANIFEST}", found.pop(prefix).to_json())
    for prefix in found:
        manifest.remove(storage, prefix)
    return sum(layer.size for layer in found.values())


def orphans(storage: Storage) -> list[str]:
    """Layers of builds that did not end, by their prefixes."""
    before = iso(datetime.now(UTC) - timedelta(hours=ORPHAN_HOURS))
    needed = _needed(storage)
    layers = manifest.list_artifacts(storage, PREFIX, damaged=lambda _: None)
    found = [(f"{PREFIX}/{layer.id}", layer.created_at) for layer in layers]
    return [prefix for prefix, made in found if prefix not in needed and made < before]


def _needed(storage: Storage) -> set[str]:
    return {prefix for version in manifest.list_artifacts(storage, "datasets") for prefix in version.needs}


def fetch_columns(storage: Storage, version: str, split: str, names: Sequence[str], cache: Path) -> dict[str, Array]:
    """Whole columns of a split, each (n, *shape), verified; nothing else of the version is fetched.

    Raises MissingKeyError, ArtifactError or StorageError.
    """
    prefix = f"datasets/{version}"
    described = manifest.read(storage, prefix)
    # A reader knows the shards by their labels.
    columns = {"label", *names}
    own = [path for path in described.files if path == LAYERS or path.startswith(f"{split}.")]
    for path in {*own, *column_files(described.files, split, columns)}:
        manifest.fetch_file(storage, prefix, described, path, cache)
    for needed, expected in described.needs.items():
        layer = manifest.read(storage, needed)
        manifest.check_needed(layer, expected["content"], f"{storage.url}/{needed}", prefix)
        for path in column_files(layer.files, split, columns):
            manifest.fetch_file(storage, needed, layer, path, cache)
    rows = Split(cache / prefix / described.content, split, [])
    return {name: rows.column(name, np.arange(len(rows))) for name in names}
