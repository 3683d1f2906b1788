"""A server under measurement: started on its core, asked until right, frozen while others are measured, and ended."""

import http.client
import json
import math
import os
import re
import shutil
import signal
import subprocess
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from environments import HERE
from servers import Place, Question, Row, Server

MARK = "BENCHMARK_RUN"
PATIENCE = 180.0
AWAKE = 10.0
# Of /proc/.../smaps: the first line of a mapping, and what counts of the others.
MAPPING = re.compile(
    r"^[0-9a-f]+-[0-9a-f]+ \S+ (?P<offset>\S+) \S+ (?P<inode>\d+).*\n(?:[A-Z]\w*:.*\n)*?"
    r"Rss: +(?P<rss>\d+) kB\n(?:[A-Z]\w*:.*\n)*?Pss: +(?P<pss>\d+) kB\n(?:[A-Z]\w*:.*\n)*?"
    r"Anonymous: +(?P<anonymous>\d+) kB\n",
    re.MULTILINE,
)


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
        """Ids of all processes that it has started and that still run, parents first.

        Those that carry its mark, and all children: a process that gives itself a title (as Ray's agents do) writes it
        over its environment.
        """
        found = [self.process.pid] if self.process.poll() is None else []
        children = defaultdict(list)
        for directory in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                parent = int((directory / "stat").read_text().rpartition(")")[2].split()[1])
                children[parent].append(int(directory.name))
                marked = f"{MARK}={self.mark}".encode() in (directory / "environ").read_bytes()
                if marked and int(directory.name) not in found:
                    found.append(int(directory.name))
        for pid in found:
            found += [child for child in children[pid] if child not in found]
        return found

    def send(self, number: signal.Signals, pids: Sequence[int]) -> None:
        """A signal to those of its processes that still run."""
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def freeze(self) -> None:
        """Stop all its processes, so that nothing of it takes the core from the server whose turn it is."""
        stopped: set[int] = set()
        while fresh := [pid for pid in self.processes() if pid not in stopped]:
            self.send(signal.SIGSTOP, fresh)
            stopped.update(fresh)

    def thaw(self, examples: Examples) -> None:
        """Continue, and wait until it answers rightly. Raises WrongError if it does not within 10 seconds.

        Its first process goes last: a supervisor ends workers that have not told for long that they live.
        """
        pids = [pid for pid in self.processes() if pid != self.process.pid]
        self.send(signal.SIGCONT, pids)
        time.sleep(0.1)
        self.send(signal.SIGCONT, [self.process.pid])
        time.sleep(0.1)
        self.await_right(examples, AWAKE)

    def await_right(self, examples: Examples, patience: float) -> None:
        """Ask until an answer is right. Raises WrongError if it ends, or none is within so many seconds."""
        question = self.server.ask(self.place.kind, examples.inputs[0])
        fault, end = "no answer", time.monotonic() + patience
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise WrongError(f"{self.server.name} ended with {self.process.returncode}:\n{self.tail()}")
            with suppress(OSError, http.client.HTTPException):
                fault = wrong(self, question, examples, 0)
                if not fault:
                    return
            time.sleep(0.01)
        raise WrongError(f"{self.server.name} gives no right answer within {patience:g} s: {fault}\n{self.tail()}")

    def megabytes(self) -> dict[str, float]:
        """Memory of all its processes: resident, and with what they share counted once.

        Not the kernel's proportional size: a library that other servers have mapped as well would count in part.
        """
        resident, private, files = 0.0, 0.0, defaultdict[str, float](float)
        for pid in self.processes():
            with suppress(OSError):
                for mapping in MAPPING.finditer(Path(f"/proc/{pid}/smaps").read_text()):
                    rss, pss, anonymous = (int(mapping[name]) / 1e3 for name in ("rss", "pss", "anonymous"))
                    resident += rss
                    if mapping["inode"] == "0":
                        private += pss
                    else:
                        private += anonymous
                        part = f"{mapping['inode']} {mapping['offset']}"
                        files[part] = max(files[part], rss - anonymous)
        return {"rss_mb": round(resident, 1), "once_mb": round(private + sum(files.values()), 1)}

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
    cores = f"0-{(os.cpu_count() or 1) - 1}" if server.all_cores else str(core)
    with log.open("wb") as output:
        started = time.monotonic()
        process = subprocess.Popen(
            ["taskset", "-c", cores, *command],
            env={**kept, **threads, "PYTHONDONTWRITEBYTECODE": "", MARK: mark, **variables},
            cwd=place.scratch,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    found = Running(server, place, process, mark, log)
    try:
        found.await_right(examples, PATIENCE)
        found.cold_seconds = time.monotonic() - started
        yield found
    finally:
        end([found])


@dataclass(frozen=True)
class Calls:
    """The model without HTTP, loaded by calls.py, which sleeps until it is asked."""

    process: subprocess.Popen[str]
    log: Path

    def measure(self, seconds: float) -> dict[str, float]:
        """Rows per second by rows in a call. Raises WrongError if it has ended."""
        with suppress(BrokenPipeError):
            print(seconds, file=self.process.stdin, flush=True)
        found: dict[str, float] = json.loads(self.line())
        return found

    def line(self) -> str:
        """The next that it says."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise WrongError(f"calls.py ended with {self.process.wait()}:\n{self.log.read_text()[-2000:]}")
        return line


@contextmanager
def calling(python: str, runtime: str, directory: Path, log: Path, core: int) -> Iterator[Calls]:
    """Load the model in calls.py on a core; end it on leaving. Raises WrongError."""
    with log.open("w") as errors:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), python, str(HERE / "calls.py"), runtime, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
    with process:
        try:
            found = Calls(process, log)
            found.line()
            yield found
        finally:
            process.kill()


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


def end(servers: Sequence[Running]) -> None:
    """All processes of these servers, frozen or not; no others."""
    for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 10.0)):
        for each in servers:
            pids = each.processes()
            each.send(signal.SIGCONT, pids)
            each.send(number, pids)
        until = time.monotonic() + patience
        while time.monotonic() < until and any(each.processes() for each in servers):
            time.sleep(0.05)
    for each in servers:
        each.process.wait(10)
        if each.server.name == "ray":
            shutil.rmtree(f"/tmp/ray-{each.place.port}", ignore_errors=True)
