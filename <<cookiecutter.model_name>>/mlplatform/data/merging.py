"""Merging parts: examples in the order of their ids' hashes, each id once, one bucket of them in memory at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlplatform.contract.errors import BadDataError
from mlplatform.data.dataset import Array
from mlplatform.store.manifest import fetch
from mlplatform.store.storage import Storage

# Buckets are held in memory one at a time, in a few copies. More than 256 files open at once is more than some systems
# allow; data of over 4 GB has larger buckets instead.
BUCKET_BYTES = 16 << 20
BUCKETS = 256


def merged(storage: Storage, parts: Sequence[str], buckets: Path, work: Path) -> Iterator[Array]:
    """All examples of the parts, repeated ones as well, bucket by bucket in the order of their ids' hashes.

    Yields structured arrays (n,) of `row_type`. buckets: an empty directory. Raises BadDataError without any.
    """
    files = _array_files(storage, parts, work)
    row_type = _common_row_type(files)
    _scatter(files, row_type, buckets)
    for bucket in sorted(buckets.iterdir()):
        yield np.fromfile(bucket, row_type)


def distinct(examples: Array) -> tuple[Array, int, list[bytes]]:
    """Examples sorted by id, each id once; how many repeat a kept one, and the ids of those that contradict one."""
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


def _array_files(storage: Storage, parts: Sequence[str], work: Path) -> list[Path]:
    """The arrays of all parts as local files."""
    contents = [fetch(storage, prefix, work)[1] for prefix in parts]
    files = [path for content in contents for path in sorted(content.glob("*.npy"))]
    if not files:
        raise BadDataError("the source data holds no record that fits model.RECORD")
    return files


def _common_row_type(files: Sequence[Path]) -> np.dtype[Any]:
    """The row type that holds every example: text is stored in fields as wide as a file's longest value."""
    row_types: list[np.dtype[Any]] = [np.load(path, mmap_mode="r").dtype for path in files]
    if len(set(row_types)) == 1:
        return row_types[0]
    return np.dtype([_widest(row_types, name) for name in row_types[0].names or ()])


def _widest(row_types: Sequence[np.dtype[Any]], name: str) -> tuple[Any, ...]:
    widest = max((row_type[name] for row_type in row_types), key=lambda dtype: dtype.itemsize)
    return (name, widest.base, widest.shape)


def _scatter(files: Sequence[Path], row_type: np.dtype[Any], buckets: Path) -> None:
    """Divide the examples by the first bits of their id's hash into files that fit into memory."""
    size = sum(path.stat().st_size for path in files)
    count = min(BUCKETS, max(1, -(-size // BUCKET_BYTES)))
    outputs = [(buckets / f"{i:04}").open("wb") for i in range(count)]
    try:
        for path in files:
            examples = np.load(path).astype(row_type)
            # Multiplying the high bits scales the hash to [0, count): buckets in order are hashes in order.
            bucket = ((examples["high"] >> np.uint64(32)) * np.uint64(count)) >> np.uint64(32)
            for i in np.unique(bucket):
                examples[bucket == i].tofile(outputs[int(i)])
    finally:
        for output in outputs:
            output.close()
