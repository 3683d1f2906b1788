"""What it costs to have a file of Parquet as arrays or Python's values, block by block, with DuckDB and with PyArrow.

`python parquet_readers.py [--rows 300000] [--images 500] [--rounds 3]` makes a table of 13 numbers, an id and a label,
and one of images of 224x224x3 numbers in nested lists, and prints CPU seconds and peak memory, each the median of the
rounds, in turn and each in a process of its own with one thread. Values are what the platform needs: numbers as arrays,
all others as JSON has them.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from variant import NAMES

SHAPE = (224, 224, 3)
ROWS = 10_000


def duckdb_values(path: Path) -> float:
    """Rows as Python's values, some at a time: what streams without pandas or PyArrow."""
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    found = connection.execute("SELECT * FROM read_parquet(?)", [str(path)])
    names = [column[0] for column in found.description or ()]
    total = 0.0
    while rows := found.fetchmany(ROWS if "image" not in names else 8):
        columns = dict(zip(names, zip(*rows, strict=True), strict=True))
        total += sum(float(np.asarray(columns[name], np.float64).sum()) for name in names if name in (*NAMES, "image"))
    return total


def duckdb_arrays(path: Path) -> float:
    """NumPy's arrays: of the whole file at once, as there are no blocks of these."""
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    columns = connection.execute("SELECT * FROM read_parquet(?)", [str(path)]).fetchnumpy()
    columns["id"].tolist()
    columns["label"].tolist()
    return sum(float(columns[name].sum()) for name in NAMES)


def pyarrow_batches(path: Path) -> float:
    """Batches of Arrow: numbers as they lie, text as Python's values."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
    images = "image" in file.schema_arrow.names
    total = 0.0
    for batch in file.iter_batches(8 if images else ROWS, use_threads=False):
        batch.validate(full=True)
        if images:
            flat = batch["image"].flatten().flatten().flatten().to_numpy()
            total += float(np.asarray(flat, np.float64).reshape(-1, *SHAPE).sum())
        else:
            total += sum(float(batch[name].to_numpy().sum()) for name in NAMES)
            batch["id"].to_pylist()
            batch["label"].to_pylist()
    return total


READERS: dict[str, Callable[[Path], float]] = {
    "DuckDB, values": duckdb_values,
    "DuckDB, arrays": duckdb_arrays,
    "PyArrow, batches": pyarrow_batches,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--read", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        reader, path = options.read
        READERS[reader](Path(path))
        return
    with tempfile.TemporaryDirectory() as temporary:
        files = {"numbers": Path(temporary) / "numbers.parquet", "images": Path(temporary) / "images.parquet"}
        write(files["numbers"], files["images"], options.rows, options.images)
        figures: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for _ in range(options.rounds):
            for kind, path in files.items():
                # Of nested lists DuckDB makes arrays of objects, which are Python's values again.
                for reader in [name for name in READERS if (kind, name) != ("images", "DuckDB, arrays")]:
                    figures.setdefault((kind, reader), []).append(measure(reader, path))
    print("| file | read with | CPU s | peak MB |\n| --- | --- | ---: | ---: |")
    for (kind, reader), runs in figures.items():
        cpu, memory = (statistics.median(run[i] for run in runs) for i in range(2))
        print(f"| {kind} | {reader} | {cpu:.2f} | {memory:.0f} |")


def measure(reader: str, path: Path) -> tuple[float, float]:
    """CPU seconds and peak memory in MB."""
    arguments = [sys.executable, __file__, "--read", reader, str(path)]
    process = os.spawnve(os.P_NOWAIT, sys.executable, arguments, {**os.environ, "OMP_NUM_THREADS": "1"})
    _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit(f"{reader} failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def write(numbers: Path, images: Path, rows: int, count: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    chance = np.random.default_rng(0)
    columns = {name: chance.uniform(-100, 100, rows) for name in NAMES}
    table = {"id": [f"e{i}" for i in range(rows)], **columns, "label": [("no", "yes")[i % 2] for i in range(rows)]}
    pq.write_table(pa.table(table), numbers)
    column: pa.Array = pa.array(chance.integers(0, 256, count * int(np.prod(SHAPE)), dtype=np.uint8))
    for length in reversed(SHAPE):
        column = pa.ListArray.from_arrays(np.arange(0, len(column) + 1, length, dtype=np.int32), column)
    pq.write_table(pa.table({"image": column}), images, row_group_size=100)


if __name__ == "__main__":
    main()
