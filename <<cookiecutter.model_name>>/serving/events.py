"""Notes of each request for the report on a ghost, written into a spool beside the request's way.

The observer keeps what it needs and returns, 1 us; a greenlet makes lines of it in short turns and writes them. The
format is that of artifacts/events.py, the spool that of artifacts/spool.py.
"""

import base64
import logging
import mmap
import socket
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, NamedTuple
from uuid import uuid4

import gevent
import orjson

from artifacts.counters import COUNTERS_BYTES, Counters
from artifacts.events import Process
from artifacts.spool import SpoolWriter
from serving.exchange import Exchange
from serving.memory import resident_bytes
from serving.predicted import Predicted, predicted_by
from serving.service import ServedModel, Service

LOG = logging.getLogger("gunicorn.error")
# Lines are made little by little, a hundred times a second: 25 take 0.1 ms, which a request may have to wait. It takes
# a pause to let others in: gevent runs what asks for the next turn for 5 ms before it looks at a socket.
_TURN = 25
_PAUSE_SECONDS = 0.005
_EVERY_SECONDS = 0.1
_USAGE_SECONDS = 10.0
# Notes that wait for the greenlet: what 5,000 requests/s leave in two seconds.
_MOST_WAITING = 10_000
_CGROUP = Path("/sys/fs/cgroup")


class Note(NamedTuple):
    """What is kept of a request until its line is made."""

    at: float
    id: str
    status: int
    seconds: float
    predicted: Predicted | None
    mirrored: bool
    body: bytes


class EventLog:
    """Writes the events of one process. Made after the fork; used from its event loop only.

    counters: those of the events and of the mirror. Without a spool ([serving] events is empty) nothing is noted.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._settings = service.settings
        self._bodies = service.settings.events_bodies
        self._notes: deque[Note | dict[str, Any]] = deque()
        self._spool: SpoolWriter | None = None
        self._requests = 0
        self.counters = Counters()
        self.on = bool(service.settings.events)
        self._shared: BinaryIO | None = None

    @property
    def open(self) -> bool:
        """Whether it is known where to write."""
        return self._spool is not None

    def shared_counters(self) -> int:
        """Descriptor of a file that holds the counters: the state in the spool, or one without a name."""
        if self._spool is not None:
            return self._spool.state.fileno()
        if self._shared is None:
            self._shared = TemporaryFile()  # noqa: SIM115
            self._shared.truncate(COUNTERS_BYTES)
            before, self.counters = self.counters, Counters(mmap.mmap(self._shared.fileno(), COUNTERS_BYTES))
            self.counters.take_over(before)
        return self._shared.fileno()

    def start(self) -> None:
        """Begin to write once there is a model."""
        if self.on:
            gevent.spawn(self._run)

    def note(self, exchange: Exchange, mirrored: bool) -> None:
        """Take down a request that was answered."""
        self._requests += 1
        if not self.on:
            return
        self.counters.add("recorded")
        if len(self._notes) >= _MOST_WAITING:
            self.counters.add("dropped")
            return
        status = 200 if exchange.error is None else int(exchange.status)
        body = exchange.body if self._bodies else b""
        self._notes.append(
            Note(
                time.time(),
                exchange.request_id,
                status,
                exchange.seconds,
                predicted_by(exchange),
                mirrored,
                body,
            )
        )

    def label(self, id: str, labels: Sequence[str | None]) -> bool:
        """Take down what the rows of a request really were; whether there was room."""
        self.counters.add("recorded")
        if not self.on or len(self._notes) >= _MOST_WAITING:
            self.counters.add("dropped")
            return False
        self._notes.append({"kind": "label", "at": round(time.time(), 3), "id": id, "labels": list(labels)})
        return True

    def stop(self) -> None:
        """Write what waits, and finish the segment."""
        if self._spool is not None:
            while self._notes:
                self._write(self._spool, len(self._notes))
            self._spool.close()
            self._spool = None
        self.on = False

    def _run(self) -> None:
        while self._service.model is None:
            gevent.sleep(_EVERY_SECONDS)
        if not self._open(self._service.model):
            return
        usage = Usage()
        measured = time.monotonic()
        while self._spool is not None:
            if self._notes:
                # More at once when they come faster than 5,000 a second.
                self._write(self._spool, max(_TURN, len(self._notes) // 20))
            now = time.monotonic()
            if now - measured >= _USAGE_SECONDS:
                measured = now
                self.counters.add("recorded")
                self._notes.append(usage.event(self._requests))
                self._requests = 0
            self._spool.roll(now)
            gevent.sleep(_PAUSE_SECONDS if self._notes else _EVERY_SECONDS)

    def _open(self, model: ServedModel) -> bool:
        host = socket.gethostname()
        process = Process(
            service=self._service.name,
            role=self._settings.role,
            version=model.manifest.id,
            host=host,
            process=f"{host[-40:]}-{uuid4().hex[:12]}",
        )
        try:
            spool = SpoolWriter(Path(self._settings.events), process, self._settings.events_bytes)
        except OSError as error:
            LOG.error("no events are kept: [serving] events = %r: %s", self._settings.events, error)
            self.on = False
            self._notes.clear()
            return False
        before, self.counters, self._spool = self.counters, spool.counters, spool
        spool.counters.take_over(before)
        return True

    def _write(self, spool: SpoolWriter, most: int) -> None:
        """Make lines of the oldest notes, and write them."""
        notes = [self._notes.popleft() for _ in range(min(most, len(self._notes)))]
        spool.write(b"\n".join([*map(_line, notes), b""]), len(notes))


class Usage:
    """CPU and memory since the last time: of the container where there is one, of this process elsewhere."""

    def __init__(self, cgroup: Path = _CGROUP) -> None:
        self._cgroup = cgroup
        # The root group, that of a machine, has no such file.
        self._contained = (cgroup / "memory.current").is_file()
        self._before = (time.monotonic(), self._cpu_seconds())

    def event(self, requests: int) -> dict[str, Any]:
        """As an event; requests: answered since the last time."""
        now, cpu = time.monotonic(), self._cpu_seconds()
        seconds, used = now - self._before[0], cpu - self._before[1]
        self._before = (now, cpu)
        return {
            "kind": "usage",
            "at": round(time.time(), 3),
            "of": "container" if self._contained else "process",
            "seconds": round(seconds, 3),
            "cpu_seconds": round(used, 4),
            "memory_bytes": self._memory_bytes(),
            "requests": requests,
        }

    def _cpu_seconds(self) -> float:
        if self._contained:
            return _field(self._cgroup / "cpu.stat", "usage_usec") / 1e6
        return time.process_time()

    def _memory_bytes(self) -> int:
        """The working set, which is what Kubernetes kills for, or the resident set."""
        if self._contained:
            current = int((self._cgroup / "memory.current").read_text())
            return current - _field(self._cgroup / "memory.stat", "inactive_file")
        return resident_bytes()


def _field(path: Path, name: str) -> int:
    found = next((line.split()[1] for line in path.read_text().splitlines() if line.startswith(f"{name} ")), "0")
    return int(found)


def _line(note: Note | dict[str, Any]) -> bytes:
    if isinstance(note, dict):
        return orjson.dumps(note)
    event: dict[str, Any] = {
        "kind": "prediction",
        "at": round(note.at, 3),
        "id": note.id,
        "status": note.status,
        "ms": round(1000 * note.seconds, 3),
    }
    if note.predicted is not None:
        event |= note.predicted()
    if note.mirrored:
        event["mirrored"] = True
    if note.body:
        event["body"] = base64.b64encode(note.body).decode()
    return orjson.dumps(event)
