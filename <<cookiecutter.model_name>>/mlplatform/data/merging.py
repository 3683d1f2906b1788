"""Merging parts: examples in the order of their ids' hashes, each id once, one bucket of them in memory at a time."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from mlplatform.contract.errors import BadDataError
from mlplatform.data.columns import Columns, Texts, append, load, numbers, read_appended, take, texts
from mlplatform.data.dataset import Schema
from mlplatform.data.parts import Part
from mlplatform.store.manifest import fetch
from mlplatform.store.storage import Storage

# Buckets are held in memory one at a time, in a few copies. More than 256 files open at once is more than some systems
# allow; data of over 4 GB has larger buckets instead.
BUCKET_BYTES = 16 << 20
BUCKETS = 256


def merged(storage: Storage, parts: Sequence[Part], schema: Schema, buckets: Path, work: Path) -> Iterator[Columns]:
    """All examples of the parts' files, repeated ones as well, bucket by bucket in the order of their ids' hashes.

    Yields tables with the columns of ExampleMaker.make but where a record stood; `label` is the truth as the target
    encodes it. Those without a valid one are left out. buckets: an empty directory. Raises BadDataError without any
    example.
    """
    contents = [(part, fetch(storage, part.prefix, work)[1]) for part in parts]
    files = [(part, path) for part, content in contents for path in sorted(content.glob("*.npz"))]
    count = min(BUCKETS, max(1, -(-sum(path.stat().st_size for _, path in files) // BUCKET_BYTES)))
    like = None
    with ExitStack() as stack:
        outputs = [stack.enter_context((buckets / f"{i:04}").open("wb")) for i in range(count)]
        for part, path in files:
            examples = _chosen(load(path), part, schema)
            if len(examples["high"]):
                like = examples
                for i, share in _divided(examples, count):
                    append(outputs[i], share)
    if like is None:
        raise BadDataError("the source data holds no record that fits model.RECORD")
    for bucket in sorted(buckets.iterdir()):
        with bucket.open("rb") as file:
            if bucket.stat().st_size:
                yield read_appended(file, like)
        bucket.unlink()


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
        content = [_row_bytes(examples, i) for i in order[first : last + 1]]
        # Of several versions of an example the smallest bytes win: that does not depend on the order of arrival.
        chosen = content.index(min(content))
        kept[first : last + 1] = False
        kept[first + chosen] = True
        same = [inputs for inputs, _ in content].count(content[chosen][0])
        repeated += same - 1
        conflicting += [content[chosen][0][0]] * (len(content) - same)
    return take(examples, order[kept]), repeated, conflicting


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


def _row_bytes(examples: Columns, row: int) -> tuple[list[bytes], bytes]:
    """The content of an example, its id first; and apart from that what the model does not see."""
    at = np.array([row])
    content: list[bytes] = []
    for name in ["id", *sorted(set(examples) - {"id", "high", "low", "others"})]:
        column = examples[name]
        content += column.array(at).reshape(-1).tolist() if isinstance(column, Texts) else [column[row].tobytes()]
    others = examples.get("others")
    return content, others.array(at)[0] if isinstance(others, Texts) else b""
