"""What a serving container takes over what its model took: `nox -s bench_memory -- text dense`.

Each model in kinds/ is trained, verified as the image's build does it, which measures what it takes, and served with
one worker and with two, under load by clients with small, full and the largest bodies. The memory of all the server's
processes is read ten times a second: anonymous and shared, which a container cannot give back, and with it the pages of
files that are mapped, shared ones counted once.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from train import KINDS, TEMPLATE, train

from mlplatform.contract.memory import container_bytes
from mlplatform.store.manifest import read_directory
from mlplatform.tests.serving.running import Client, Running, serving

SECONDS = 20.0
# The server's defaults: max_instances and max_body_bytes of [serving], the second with space for brackets.
MOST_ROWS, MOST_BYTES = 1024, 7 << 20
MB = 1e6


def measure(kind: str) -> Iterator[dict[str, Any]]:
    """Figures of a model by runtime and number of workers, in bytes."""
    with TemporaryDirectory() as temporary:
        directory = Path(temporary)
        trained = train(kind, directory)
        if trained["exit_code"]:
            raise RuntimeError(trained["why"])
        (version,) = (directory / "store" / "models").iterdir()
        model, _ = read_directory(version)
        instances = [sample["instance"] for sample in model.properties["samples"]]
        for runtime, entry in model.properties["runtimes"].items():
            if not entry["valid"]:
                continue
            peak = verified(version, runtime, directory)
            for workers in (1, 2):
                given = {"runtime": runtime, "workers": workers, "frozen": directory / "frozen"}
                with serving(directory / "service.toml", **given) as running:
                    running.wait_for(200, seconds=600)
                    with watching(running) as idle:
                        time.sleep(1)
                    with watching(running) as loaded:
                        answered = load(running, instances)
                yield {
                    "kind": kind,
                    "runtime": runtime,
                    "workers": workers,
                    "verify": peak,
                    "idle": idle["all"],
                    "kept": loaded["kept"],
                    "loaded": loaded["all"],
                    "container": container_bytes(peak, workers),
                    "answered": answered,
                }


def verified(version: Path, runtime: str, directory: Path) -> int:
    """What `verify` writes down, the second time: as docker/serving.Dockerfile calls it."""
    command = [sys.executable, "-m", "mlplatform", "verify", str(version), "--runtime", runtime]
    command += ["--frozen", str(directory / "frozen")]
    figure = directory / "memory-bytes"
    for more in ([], ["--memory-file", str(figure)]):
        subprocess.run(
            [*command, *more],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(TEMPLATE)},
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return int(figure.read_text())


@contextmanager
def watching(running: Running) -> Iterator[dict[str, int]]:
    """The most that a server's processes take meanwhile. `kept`: without the pages of files; `all`: with them."""
    most = {"kept": 0, "all": 0}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            figures = [_rollup(process) for process in (running.process.pid, *running.workers())]
            now = {"kept": sum(each["kept"] for each in figures), "all": sum(each["all"] for each in figures)}
            most.update({name: max(most[name], value) for name, value in now.items()})

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        ended.set()
        watcher.join()


def _rollup(process: int) -> dict[str, int]:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {"kept": 0, "all": 0}
    figures = {name: int(value) * 1024 for name, value, *_ in (line.split() for line in lines)}
    return {"kept": figures["Pss_Anon:"] + figures["Pss_Shmem:"], "all": figures["Pss:"]}


def load(running: Running, instances: list[Any]) -> int:
    """Ask from 64 connections for SECONDS: one row, 64 rows, and as many as one request may have. Returns answers."""
    row = len(json.dumps(instances[0]))
    many = max(1, min(MOST_ROWS, MOST_BYTES // row))
    rows = [1] * 48 + [64] * 12 + [many] * 4
    bodies = {
        count: json.dumps({"instances": [instances[at % len(instances)] for at in range(count)]}).encode()
        for count in set(rows)
    }
    clients = [Client(running.port, bodies[count]) for count in rows]
    time.sleep(SECONDS)
    for client in clients:
        client.stop.set()
    for client in clients:
        client.join()
    return sum(status == 200 for client in clients for status in client.statuses)


def table(results: list[dict[str, Any]]) -> str:
    """The results as Markdown."""
    lines = [
        "| model | runtime | workers | measured in the image | at rest | under load | of it not of files "
        "| a container is given |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in results:
        figures = [f"{each[name] / MB:.0f} MB" for name in ("verify", "idle", "loaded", "kept", "container")]
        lines.append(f"| {each['kind']} | {each['runtime']} | {each['workers']} | {' | '.join(figures)} |")
    return "\n".join(lines)


def main(kinds: list[str]) -> None:
    """Measure and print the table."""
    results = []
    for kind in kinds:
        for figures in measure(kind):
            print(json.dumps(figures), file=sys.stderr, flush=True)
            results.append(figures)
    print(table(results))


if __name__ == "__main__":
    main(sys.argv[1:] or list(KINDS))
