"""What reading a file of 13 numbers by the platform's rules costs with DuckDB, PyArrow, and orjson with NumPy.

`python readers.py FILE [--rounds 3]` prints CPU seconds, each the median of the rounds, in turn and each in a process
of its own. A number is what JSON calls one. In a table, DuckDB and PyArrow take `nan`, `+1`, `01` and `1e400` for one;
in JSON, DuckDB takes `"1"`, `true` and `NaN`, and passes over unknown members. So the strict variants read text and
match it. `lenient` is what an engine's own types cost.
"""

import argparse
import gzip
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from variant import LABELS, NAMES

BLOCK = 1 << 20
NUMBER = r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?"


def duckdb_lenient(path: Path) -> int:
    """Types of DuckDB."""
    return _duckdb(path, "'DOUBLE'", "true")


def duckdb_strict(path: Path) -> int:
    """Text of DuckDB, matched and cast; of JSON the types of all members as well."""
    if ".jsonl" in path.name:
        kinds = " AND ".join(f"json_type(json, '$.{name}') IN ('DOUBLE', 'UBIGINT', 'BIGINT')" for name in NAMES)
        values = ", ".join(f"CAST(json->>'$.{name}' AS DOUBLE) AS {name}" for name in NAMES)
        keys = f"len(json_keys(json)) = {len(NAMES) + 2}"
        source = f"(SELECT {values}, json->>'$.id' AS id, json->>'$.label' AS label "
        source += f"FROM read_ndjson_objects('{path}') WHERE {kinds} AND {keys})"
        return _count(source, "true")
    return _duckdb(path, "'VARCHAR'", " AND ".join(f"regexp_full_match({name}, '{NUMBER}')" for name in NAMES))


def _duckdb(path: Path, kind: str, matches: str) -> int:
    order = ["id", *NAMES, "label"]
    types = "{" + ", ".join(f"{name!r}: {kind if name in NAMES else repr('VARCHAR')}" for name in order) + "}"
    form = "format='newline_delimited'" if ".jsonl" in path.name else "header=true"
    reader = "read_json" if ".jsonl" in path.name else "read_csv"
    return _count(f"{reader}('{path}', {form}, columns={types})", matches)


def _count(source: str, matches: str) -> int:
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    casts = ", ".join(f"CAST({name} AS DOUBLE) AS {name}" for name in NAMES)
    ranges = " AND ".join(f"{name} BETWEEN -1000 AND 1000" for name in NAMES)
    numbers = f"(SELECT id, {casts}, label FROM {source} WHERE {matches})"
    connection.execute(f"CREATE TABLE rows AS SELECT * FROM {numbers} WHERE {ranges} AND label IN {LABELS}")
    found = connection.execute("SELECT count(*) FROM rows").fetchone()
    return int(found[0]) if found else 0


def pyarrow_strict(path: Path) -> int:
    """Text of PyArrow, matched and cast. Its JSON reader has no text of numbers, so types of its own there."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv
    import pyarrow.json

    pa.set_cpu_count(1)
    if ".jsonl" in path.name:
        with pa.input_stream(path, compression="gzip" if path.suffix == ".gz" else None) as stream:
            table = pyarrow.json.read_json(stream)
    else:
        text = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(["id", *NAMES, "label"], pa.string()))
        table = pyarrow.csv.read_csv(path, convert_options=text)
    fits = pc.is_in(table["label"], pa.array(LABELS))
    for name in NAMES:
        column = table[name]
        if column.type == pa.string():
            fits = pc.and_(fits, pc.match_substring_regex(column, f"^{NUMBER}$"))
            column = column.cast(pa.float64())
        fits = pc.and_(fits, pc.and_(pc.greater_equal(column, -1000), pc.less_equal(column, 1000)))
    return int(pc.sum(fits).as_py())


def orjson_numpy(path: Path) -> int:
    """Blocks of lines: NumPy finds the cells of a table, orjson reads all numbers of a block as one list."""
    count = 0
    with path.open("rb") as packed, gzip.open(packed) if path.suffix == ".gz" else packed as file:
        if ".jsonl" not in path.name:
            file.readline()
        while block := file.read(BLOCK):
            block += file.readline()
            count += _json_block(block) if ".jsonl" in path.name else _table_block(block)
    return count


def _table_block(block: bytes) -> int:
    import orjson

    text = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero((text == ord(",")) | (text == ord("\n"))).reshape(-1, len(NAMES) + 2)
    kept = np.zeros(len(text), np.int8)
    kept[ends[:, 0] + 1] += 1
    kept[ends[:, -2] + 1] -= 1
    numbers = orjson.loads(b"[" + text[np.cumsum(kept, dtype=np.int8).view(bool)].tobytes()[:-1] + b"]")
    values = np.asarray(numbers).reshape(-1, len(NAMES))
    labels = [block[start + 1 : end] for start, end in zip(ends[:, -2].tolist(), ends[:, -1].tolist(), strict=True)]
    fits = ((values >= -1000) & (values <= 1000)).all(axis=1)
    return int((fits & np.array([label in (b"no", b"yes") for label in labels])).sum())


def _json_block(block: bytes) -> int:
    import orjson

    records = orjson.loads(b"[" + block.rstrip().replace(b"\n", b",") + b"]")
    assert block.count(b'":') == sum(map(len, records))
    fits = np.ones(len(records), bool)
    for name in NAMES:
        column = [record[name] for record in records]
        assert set(map(type, column)) <= {int, float}
        values = np.asarray(column)
        fits &= (values >= -1000) & (values <= 1000)
    return int((fits & np.array([record["label"] in LABELS for record in records])).sum())


READERS: dict[str, Callable[[Path], int]] = {
    "DuckDB, lenient": duckdb_lenient,
    "DuckDB, strict": duckdb_strict,
    "PyArrow, strict": pyarrow_strict,
    "orjson and NumPy, strict": orjson_numpy,
}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--reader")
    options = parser.parse_args()
    if options.reader:
        print(READERS[options.reader](options.file), file=sys.stderr)
        return
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in READERS}
    for _ in range(options.rounds):
        for name in READERS:
            arguments = [sys.executable, __file__, str(options.file), "--reader", name]
            process = os.spawnve(os.P_NOWAIT, sys.executable, arguments, dict(os.environ))
            _, status, usage = os.wait4(process, 0)
            if status:
                raise SystemExit(f"{name} failed")
            figures[name].append((usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024))
    print("| read with | CPU s | peak MB |\n| --- | ---: | ---: |")
    for name, runs in figures.items():
        print(f"| {name} | {statistics.median(r[0] for r in runs):.2f} | {statistics.median(r[1] for r in runs):.0f} |")


if __name__ == "__main__":
    main()
