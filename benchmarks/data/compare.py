"""Making a dataset with the platform and with scripts on DuckDB, Polars and pandas, interleaved.

`nox -s bench_data -- --rows 1000000 --rounds 3` prints a table for a README: CPU seconds of user and system, wall
seconds and peak memory, each the median of the rounds, and the bytes written. Every run is a process of its own with
one thread for what can be told so, and files that were just written, so in the page cache.

The platform also makes a version of each source with one more file of 1 % as many rows, as it does every day: once that
of the others is there (`and 1 % more`). `nothing` is the start of Python and the platform's imports, part of each run.
"""

import argparse
import gzip
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from variant import LABELS, NAMES, VARIANTS

HERE = Path(__file__).parent
TEMPLATE = HERE.parents[1] / "<<cookiecutter.model_name>>"
SMALL_FILES = 10_000


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small-files", type=int, default=SMALL_FILES)
    parser.add_argument("--with", dest="variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        sources = make_sources(directory, options.rows, options.small_files)
        figures: dict[tuple[str, str], list[tuple[float, float, float, int]]] = {}
        for round_number in range(options.rounds):
            figures.setdefault(("nothing", "platform"), []).append(measure("start", directory, directory / "none"))
            for source, path in sources.items():
                # Files of one record each are what the scripts would have to be rewritten for.
                for variant in options.variants if source.startswith("1 ") else ["platform"]:
                    target = directory / f"out-{round_number}-{variant}-{path.name}"
                    figures.setdefault((source, variant), []).append(measure(variant, path, target))
                    if variant == "platform" and source.startswith("1 "):
                        more = add_rows(path, options.rows)
                        figures.setdefault((f"{source} and 1 % more", variant), []).append(
                            measure(variant, path, target)
                        )
                        more.unlink()
                    shutil.rmtree(target)
        print("| source | made with | CPU s | wall s | peak MB | written MB |")
        print("| --- | --- | ---: | ---: | ---: | ---: |")
        for (source, variant), runs in figures.items():
            cpu, wall, memory, written = (statistics.median(run[i] for run in runs) for i in range(4))
            print(f"| {source} | {variant} | {cpu:.2f} | {wall:.2f} | {memory:.0f} | {written / 1e6:.1f} |")


def make_sources(directory: Path, rows: int, small_files: int) -> dict[str, Path]:
    """A directory for each source, by what it is."""
    csv, jsonl, small = (directory / name for name in ("csv", "jsonl", "small"))
    for path in (csv, jsonl, small):
        path.mkdir()
    write_rows(csv / "rows.csv", range(rows))
    write_rows(jsonl / "rows.jsonl.gz", range(rows))
    for number, record in enumerate(records(range(small_files))):
        (small / f"{number:06}.jsonl").write_text(json.dumps(record) + "\n")
    return {
        f"1 CSV of {rows:,} rows": csv,
        f"1 JSONL.gz of {rows:,} rows": jsonl,
        f"{small_files:,} files of 1 record": small,
    }


def add_rows(source: Path, rows: int) -> Path:
    """One more file in a source of so many rows, with 1 % as many."""
    (path,) = source.iterdir()
    more = source / f"more{path.name.removeprefix('rows')}"
    write_rows(more, range(rows, rows + rows // 100))
    return more


def write_rows(path: Path, numbers: range) -> None:
    """A file of the records with these numbers, in the format that its name says."""
    if path.suffix == ".csv":
        with path.open("w") as table:
            table.write(",".join(["id", *NAMES, "label"]) + "\n")
            table.writelines(",".join(map(str, record.values())) + "\n" for record in records(numbers))
    else:
        with gzip.open(path, "wt", compresslevel=1) as lines:
            lines.writelines(json.dumps(record) + "\n" for record in records(numbers))


def records(ids: range) -> Iterator[dict[str, object]]:
    """Records of 13 numbers."""
    chance = random.Random(ids.start)
    for i in ids:
        numbers = {name: round(chance.uniform(-100, 100), 4) for name in NAMES}
        yield {"id": f"e{i}", **numbers, "label": LABELS[i % 2]}


def measure(variant: str, source: Path, target: Path) -> tuple[float, float, float, int]:
    """CPU seconds, wall seconds, peak memory in MB, and bytes written, of one run in a process of its own."""
    threads = dict.fromkeys(("POLARS_MAX_THREADS", "OMP_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "PYTHONPATH": str(TEMPLATE)}
    before = files_of(target)
    started = time.monotonic()
    arguments = [sys.executable, str(HERE / "variant.py"), variant, str(source), str(target)]
    process = os.spawnve(os.P_NOWAIT, sys.executable, arguments, environment)
    _, status, usage = os.wait4(process, 0)
    wall = time.monotonic() - started
    if status:
        raise SystemExit(f"{variant} on {source.name} failed")
    written = sum(size for path, size in files_of(target).items() if path not in before)
    return usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024, written


def files_of(directory: Path) -> dict[Path, int]:
    """The bytes of each file below a directory that may not be there."""
    return {path: path.stat().st_size for path in directory.rglob("*") if path.is_file()}


if __name__ == "__main__":
    main()
