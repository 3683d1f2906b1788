"""One way to make a dataset of a file, in a process of its own: `variant.py NAME SOURCE TARGET`, see compare.py.

All do the same job: read the file, check types, ranges and labels, keep each id once, divide by a hash of the id, and
write the splits. The scripts on DuckDB, Polars and pandas name no row that fails; the platform does.
"""

import hashlib
import sys
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path

NUMBERS = 13
NAMES = [f"x{i}" for i in range(NUMBERS)]
LABELS = ("no", "yes")


def platform(source: Path, target: Path) -> None:
    """As `gather` does; files that were checked for the same target are not read again."""
    from mlplatform.contract.targets import Classes
    from mlplatform.data.dataset import InputSpec, Schema
    from mlplatform.data.parts import check_files, known_files, parts_of
    from mlplatform.data.sources import list_source
    from mlplatform.data.splitting import SplitRule
    from mlplatform.data.versions import prepare
    from mlplatform.store.storage import LocalStorage

    properties = {name: {"type": "number", "minimum": -1000, "maximum": 1000} for name in NAMES}
    record = {
        "type": "object",
        "properties": {"id": {"type": "string"}, **properties, "label": {"enum": list(LABELS)}},
        "required": ["id", *NAMES, "label"],
        "additionalProperties": False,
    }
    schema = Schema(record, tuple(InputSpec(name, (), "float32") for name in NAMES), Classes("label", LABELS))
    storage, work = LocalStorage(target / "store"), target / "work"
    work.mkdir(parents=True, exist_ok=True)
    files = list_source(str(source)).files
    known = known_files(storage, schema)
    new = [file for file in files if file.name not in known]
    list(check_files(storage, new, lambda file: nullcontext(source / file.key), schema, work))
    parts = parts_of(known_files(storage, schema), [file.name for file in files])
    prepare(storage, parts, schema, SplitRule(0.15, 0.15), work)


def start(source: Path, target: Path) -> None:
    """Python and what `platform` imports, and nothing else: part of every run."""
    for name in ("contract.targets", "data.sources", "data.versions"):
        import_module(f"mlplatform.{name}")


def duckdb(source: Path, target: Path) -> None:
    """SQL, with Parquet as output."""
    import duckdb as engine

    connection = engine.connect()
    connection.execute("SET threads = 1")
    (path,) = source.iterdir()
    types = "{" + ", ".join(f"{name!r}: 'DOUBLE'" for name in NAMES) + ", 'id': 'VARCHAR', 'label': 'VARCHAR'}"
    reader = "read_json" if ".jsonl" in path.name else "read_csv"
    form = ", format='newline_delimited', columns=" if reader == "read_json" else ", header=true, columns="
    order = ", ".join(["id", *NAMES, "label"])
    columns = types if reader == "read_json" else "{'id': 'VARCHAR', " + types[1:].replace(", 'id': 'VARCHAR'", "")
    ranges = " AND ".join(f"{name} BETWEEN -1000 AND 1000" for name in NAMES)
    casts = ", ".join(f"CAST({name} AS FLOAT) AS {name}" for name in NAMES)
    connection.execute(
        f"CREATE TABLE rows AS SELECT DISTINCT ON (id) id, {casts}, label, sha256(id) AS hash "
        f"FROM (SELECT {order} FROM {reader}('{path}'{form}{columns})) WHERE {ranges} AND label IN {LABELS}"
    )
    bounds = {"test": ("0", "26"), "validation": ("26", "4d"), "train": ("4d", "g")}
    target.mkdir(parents=True)
    for split, (low, high) in bounds.items():
        query = f"SELECT * FROM rows WHERE hash >= '{low}' AND hash < '{high}' ORDER BY hash"
        connection.execute(f"COPY ({query}) TO '{target / split}.parquet'")


def polars(source: Path, target: Path) -> None:
    """Eager frames, with Parquet as output."""
    import polars as pl

    (path,) = source.iterdir()
    types = {"id": pl.String, **dict.fromkeys(NAMES, pl.Float64), "label": pl.String}
    frame = pl.read_ndjson(path, schema=types) if ".jsonl" in path.name else pl.read_csv(path, schema=types)
    fits = [pl.col(name).is_between(-1000, 1000) for name in NAMES]
    frame = frame.filter(pl.all_horizontal(*fits, pl.col("label").is_in(LABELS))).unique("id")
    frame = frame.with_columns(pl.col(NAMES).cast(pl.Float32))
    hashes = [int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64 for key in frame["id"]]
    frame = frame.with_columns(pl.Series("hash", hashes)).sort("hash")
    target.mkdir(parents=True)
    for split, (low, high) in {"test": (0, 0.15), "validation": (0.15, 0.3), "train": (0.3, 1)}.items():
        frame.filter(pl.col("hash").is_between(low, high, closed="left")).write_parquet(target / f"{split}.parquet")


def pandas(source: Path, target: Path) -> None:
    """Frames, with Parquet as output."""
    import pandas as pd

    (path,) = source.iterdir()
    frame = pd.read_json(path, lines=True, dtype={"id": str}) if ".jsonl" in path.name else pd.read_csv(path)
    fits = frame[NAMES].ge(-1000).all(axis=1) & frame[NAMES].le(1000).all(axis=1) & frame["label"].isin(LABELS)
    frame = frame[fits].drop_duplicates("id").astype(dict.fromkeys(NAMES, "float32"))
    frame["hash"] = [int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64 for key in frame["id"]]
    frame = frame.sort_values("hash")
    target.mkdir(parents=True)
    for split, (low, high) in {"test": (0, 0.15), "validation": (0.15, 0.3), "train": (0.3, 1)}.items():
        frame[frame["hash"].ge(low) & frame["hash"].lt(high)].to_parquet(target / f"{split}.parquet")


VARIANTS = {"platform": platform, "duckdb": duckdb, "polars": polars, "pandas": pandas}
MEASURED = {**VARIANTS, "start": start}

if __name__ == "__main__":
    MEASURED[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
