"""A server under measurement: started on its core, asked until it is right, weighed, and ended with all it started."""

import http.client
import json
import math
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers import Place, Question, Row, Server

MARK = "BENCHMARK_RUN"
PATIENCE = 180.0


class WrongError(Exception):
    """A server did not start, or does not answer as the model does; the message says how."""


@dataclass(frozen=True)
class Examples:
    """Rows, and what the SavedModel gives for them one at a time."""

    inputs: list[list[Any]]
    outputs: list[Row]

    @classmethod
    def read(cls, path: Path) -> "Examples":
        """What make_models.py has written."""
        content = json.loads(path.read_text())
        return cls(content["inputs"], content["outputs"])

    @property
    def tolerance(self) -> float:
        """A hundredth of what tells one example from another: rounding is far below it, a mix-up far above."""
        spreads: list[float] = [max(column) - min(column) for column in zip(*self.outputs, strict=True)]
        return 0.01 * max(spreads)


@dataclass
class Running:
    """A started server. mark: in the environment of all its processes. cold_seconds: to the first right answer."""

    server: Server
    place: Place
    process: subprocess.Popen[bytes]
    mark: str
    log: Path
    cold_seconds: float = math.nan

    def processes(self) -> list[int]:
        """Ids of all processes that it has started and that still run."""
        found = []
        for directory in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if f"{MARK}={self.mark}".encode() in (directory / "environ").read_bytes():
                    found.append(int(directory.name))
        return found

    def megabytes(self) -> dict[str, float]:
        """Memory of all its processes: resident (shared pages count once for each), and proportional."""
        total = {"Rss": 0, "Pss": 0}
        for pid in self.processes():
            with suppress(OSError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    name, _, rest = line.partition(":")
                    if name in total:
                        total[name] += int(rest.split()[0])
        return {"rss_mb": round(total["Rss"] / 1e3, 1), "pss_mb": round(total["Pss"] / 1e3, 1)}

    def cpu_seconds(self) -> float:
        """Processor time of all its processes so far."""
        ticks = 0
        for pid in self.processes():
            with suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def tail(self) -> str:
        """The end of what it has printed."""
        return self.log.read_text(errors="replace")[-2000:]


@contextmanager
def running(server: Server, place: Place, examples: Examples, core: int) -> Iterator[Running]:
    """Start a server on a core and wait for its first right answer; end it on leaving. Raises WrongError."""
    shutil.rmtree(place.scratch, ignore_errors=True)
    place.scratch.mkdir(parents=True)
    command, variables = server.command(place)
    mark = uuid.uuid4().hex
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    log = place.scratch / "server.log"
    with log.open("wb") as output:
        started = time.monotonic()
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            env={**kept, **threads, "PYTHONDONTWRITEBYTECODE": "", MARK: mark, **variables},
            cwd=place.scratch,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    found = Running(server, place, process, mark, log)
    try:
        found.cold_seconds = _first_right_answer(found, examples, started)
        yield found
    finally:
        _end(found)


def _first_right_answer(found: Running, examples: Examples, started: float) -> float:
    question = found.server.ask(found.place.kind, examples.inputs[0])
    fault = "no answer"
    while time.monotonic() < started + PATIENCE:
        if found.process.poll() is not None:
            raise WrongError(f"{found.server.name} ended with {found.process.returncode}:\n{found.tail()}")
        with suppress(OSError, http.client.HTTPException):
            fault = wrong(found, question, examples, 0)
            if not fault:
                return time.monotonic() - started
        time.sleep(0.01)
    raise WrongError(f"{found.server.name} gives no right answer within {PATIENCE:g} s: {fault}\n{found.tail()}")


def wrong(found: Running, question: Question, examples: Examples, number: int) -> str:
    """What is wrong with the answer to an example; empty if nothing is."""
    connection = http.client.HTTPConnection("127.0.0.1", found.place.port, timeout=30)
    try:
        connection.request("POST", question.path, question.body, dict(question.headers))
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    if response.status != 200:
        return f"status {response.status}: {content[:300]!r}"
    if found.server.limit:
        return ""
    headers = {name.lower(): value for name, value in response.getheaders()}
    outputs = question.answer(headers, content)
    expected = examples.outputs[number]
    if len(outputs) != len(expected):
        return f"{len(outputs)} outputs; expected {len(expected)}"
    difference = max(abs(a - b) for a, b in zip(outputs, expected, strict=True))
    return "" if difference <= examples.tolerance else f"example {number} is {difference:.3g} off"


def check(found: Running, examples: Examples, clients: int = 16) -> None:
    """Different examples at once, so that batches form: each must get its own answer. Raises WrongError."""
    questions = [found.server.ask(found.place.kind, row) for row in examples.inputs]
    numbers = [number for _ in range(4) for number in range(len(questions))]
    with ThreadPoolExecutor(clients) as pool:
        faults = list(pool.map(lambda number: wrong(found, questions[number], examples, number), numbers))
    bad = [fault for fault in faults if fault]
    if bad:
        raise WrongError(
            f"{found.server.name}: {len(bad)} of {len(faults)} answers are wrong: {bad[0]}\n{found.tail()}"
        )


def machine_cpu_seconds() -> float:
    """Processor time that all processes of this machine have had so far."""
    user, nice, system = Path("/proc/stat").read_text().split(maxsplit=4)[1:4]
    return (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK")


def slowness(core: int) -> float:
    """Milliseconds that a fixed piece of work takes on a core: a virtual machine's cores are not always as fast."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        took = []
        for _ in range(5):
            started, total = time.perf_counter(), 0
            for number in range(100_000):
                total += number
            took.append(time.perf_counter() - started)
    finally:
        os.sched_setaffinity(0, before)
    return round(1e3 * sorted(took)[2], 3)


def _end(found: Running) -> None:
    """All processes that carry its mark; no others."""
    for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 10.0)):
        for pid in found.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        end = time.monotonic() + patience
        while time.monotonic() < end and found.processes():
            found.process.poll()
            time.sleep(0.05)
    found.process.wait(10)
    if found.server.name == "ray":
        shutil.rmtree(f"/tmp/ray-{found.place.port}", ignore_errors=True)
