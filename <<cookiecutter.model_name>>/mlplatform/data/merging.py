"""Merging parts: examples in the order of their ids' hashes, each id once, one bucket of them in memory at a time."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlplatform.contract.errors import BadDataError
from mlplatform.data.columns import Columns, Texts, append, load, numbers, read_appended, take, texts
from mlplatform.data.dataset import HASH, SOURCE, Schema
from mlplatform.data.parts import Part
from mlplatform.store.manifest import fetch
from mlplatform.store.storage import Storage

# Buckets are held in memory one at a time, in a few copies. More than 256 files open at once is more than some systems
# allow; data of over 4 GB has larger buckets instead.
BUCKET_BYTES = 16 << 20
BUCKETS = 256


@dataclass(frozen=True)
class Bucket:
    """All examples of parts whose ids' hashes begin with 32 bits below `end` and not below that of the one before.

    examples: repeated ones as well, with the columns of ExampleMaker.make but where a record stood; `label` is the
    truth as the target encodes it. None if there are none.
    """

    end: int
    examples: Columns | None


def merged(
    storage: Storage, parts: Sequence[Part], schema: Schema, buckets: Path, work: Path, beside: int = 0
) -> Iterator[Bucket]:
    """The examples of the parts' files that have a valid truth, in the order of their ids' hashes.

    buckets: an empty directory; beside: bytes of what is to be merged with these. Raises BadDataError if neither has
    any example.
    """
    files = _files(storage, parts, work)
    total = beside + sum(path.stat().st_size for _, path in files)
    count = min(BUCKETS, max(1, -(-total // BUCKET_BYTES)))
    like = None
    with ExitStack() as stack:
        outputs = [stack.enter_context((buckets / f"{i:04}").open("wb")) for i in range(count)]
        for part, path in files:
            examples = _chosen(load(path), part, schema)
            if len(examples["high"]):
                like = examples
                for i, share in _divided(examples, count):
                    append(outputs[i], share)
    if like is None and not beside:
        raise BadDataError("the source data holds no record that fits model.RECORD")
    for number, path in enumerate(sorted(buckets.iterdir()), start=1):
        with path.open("rb") as file:
            held = like is not None and path.stat().st_size
            # As `_divided` does: bucket i begins at the first hash that i divides from the one before.
            yield Bucket(-(-(number << 32) // count), read_appended(file, like) if held and like is not None else None)
        path.unlink()


def chosen(storage: Storage, parts: Sequence[Part], schema: Schema, work: Path) -> Iterator[Columns]:
    """As `merged`, but in the order in which they were read, piece by piece."""
    for part, path in _files(storage, parts, work):
        yield _chosen(load(path), part, schema)


def distinct(examples: Columns) -> tuple[Columns, int, list[bytes]]:
    """Examples sorted by id, each id once; how many repeat a kept one, and the ids of those that contradict one."""
    high, low = numbers(examples, "high"), numbers(examples, "low")
    order = np.lexsort((low, high))
    high, low = high[order], low[order]
    same_id = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
    kept = np.ones(len(high), dtype=bool)
    repeated = 0
    conflicting: list[bytes] = []
    groups = np.flatnonzero(np.diff(np.concatenate([[0], same_id.view(np.int8), [0]]))).reshape(-1, 2)
    for first, last in groups:
        content = [row_bytes(examples, i) for i in order[first : last + 1]]
        # Of several versions of an example the smallest bytes win: that does not depend on the order of arrival.
        chosen = content.index(min(content))
        kept[first : last + 1] = False
        kept[first + chosen] = True
        same = [inputs for inputs, _ in content].count(content[chosen][0])
        repeated += same - 1
        conflicting += [content[chosen][0][0]] * (len(content) - same)
    return take(examples, order[kept]), repeated, conflicting


def _files(storage: Storage, parts: Sequence[Part], work: Path) -> list[tuple[Part, Path]]:
    contents = [(part, fetch(storage, part.prefix, work)[1]) for part in parts]
    return [(part, path) for part, content in contents for path in sorted(content.glob("*.npz"))]


def _chosen(examples: Columns, part: Part, schema: Schema) -> Columns:
    """Those examples of a part that stand in its files in question and have a valid truth."""
    truth, valid = schema.target.encode(texts(examples, "label").array().tolist(), schema.record)
    wanted = np.isin(numbers(examples, "of"), list(part.files)) & valid
    columns = {name: column for name, column in examples.items() if name not in ("of", "row")} | {"label": truth}
    return columns if wanted.all() else take(columns, wanted)


def _divided(examples: Columns, count: int) -> Iterator[tuple[int, Columns]]:
    """Divide examples by the first bits of their ids' hashes into `count` ranges; those that are not empty."""
    # Multiplying the high bits scales the hash to [0, count): buckets in order are hashes in order.
    bucket = ((numbers(examples, "high") >> np.uint64(32)) * np.uint64(count)) >> np.uint64(32)
    if count == 1:
        yield 0, examples
        return
    order = np.argsort(bucket, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(bucket[order])) + 1):
        yield int(bucket[rows[0]]), take(examples, rows)


def row_bytes(examples: Columns, row: int, beside: str = "others") -> tuple[list[bytes], bytes]:
    """The content of an example, its id first; and apart from that what the model does not see: the column `beside`,
    and the source's id.
    """
    at = np.array([row])
    content: list[bytes] = []
    for name in ["id", *sorted(set(examples) - {"id", "high", "low", HASH, SOURCE, beside})]:
        column = examples[name]
        content += column.array(at).reshape(-1).tolist() if isinstance(column, Texts) else [column[row].tobytes()]
    unseen = [texts(examples, name).array(at)[0] for name in (beside, SOURCE) if name in examples]
    return content, b"\0".join(unseen)
