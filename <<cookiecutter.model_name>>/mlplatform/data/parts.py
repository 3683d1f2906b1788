"""Parts: one source file, checked. What fits is kept as arrays, every other record with its row and the reason.

A part lies below `parts/<hash of the file and the schema>`: `<number>.npy`, structured arrays of examples (see
`row_type`), and `problems.jsonl`, an object with `row` and `reason` for every other record.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mlplatform.data.dataset import Schema
from mlplatform.data.examples import ExampleBuffer
from mlplatform.data.records import read_rows
from mlplatform.store.manifest import Manifest, fetch, find, publish
from mlplatform.store.storage import Storage

# Examples held in memory before they are written.
BUFFER_BYTES = 16 << 20
PROBLEMS = "problems.jsonl"


def part_prefix(file_identity: str, schema: Schema) -> str:
    """Where the part of a source file is kept: by the file's content, so that no file is read twice."""
    name = hashlib.sha256(f"{file_identity}\0{schema.fingerprint()}".encode()).hexdigest()[:24]
    return f"parts/{name}"


def check_file(storage: Storage, path: Path, prefix: str, schema: Schema) -> Manifest:
    """Check every record of a source file and publish the part, unless it is there already; see the module.

    The manifest's properties are `rows`, the number of records that fit, and `problems`, that of the others.
    """
    existing = find(storage, prefix)
    if existing is not None:
        return existing
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        buffer = ExampleBuffer(schema)
        files = fitting = failing = 0
        with (directory / PROBLEMS).open("w", encoding="utf-8") as problems:
            for row in read_rows(path, schema.record):
                reason = row.reason or buffer.add(row.record or {})
                if reason:
                    failing += 1
                    problems.write(json.dumps({"row": row.row, "reason": reason}, ensure_ascii=False) + "\n")
                    continue
                fitting += 1
                if buffer.bytes >= BUFFER_BYTES:
                    np.save(directory / f"{files:06}.npy", buffer.take())
                    files += 1
        if len(buffer):
            np.save(directory / f"{files:06}.npy", buffer.take())
        return publish(storage, prefix, directory, "part", prefix, {"rows": fitting, "problems": failing})


def read_problems(storage: Storage, prefix: str, work: Path) -> Iterator[tuple[int, str]]:
    """Row and reason of every record of a part that does not fit."""
    _, content = fetch(storage, prefix, work)
    with (content / PROBLEMS).open(encoding="utf-8") as file:
        for line in file:
            problem = json.loads(line)
            yield problem["row"], problem["reason"]
