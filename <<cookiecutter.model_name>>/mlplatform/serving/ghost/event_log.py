"""Prediction events for the report on a ghost, written into a spool beside the requests' way.

The format is that of mlplatform/contract/events.py, the spool that of mlplatform/ghost/spool.py.
"""

import logging
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import gevent
import orjson

from mlplatform.contract.events import Process
from mlplatform.ghost.counters import Counters
from mlplatform.ghost.spool import SpoolWriter
from mlplatform.serving.model.batching import Arrays
from mlplatform.serving.model.service import ServedModel, Service
from mlplatform.serving.observability.memory import resident_bytes

LOG = logging.getLogger("gunicorn.error")
_LOOK_SECONDS = 0.1
_USAGE_SECONDS = 10.0
# Of the spool for labels, so that whoever posts feedback cannot keep predictions out of it.
_LABELS_SHARE = 0.5
_CGROUP = Path("/sys/fs/cgroup")


CopyableRequest = tuple[str, bytes, str | None, str | None]
"""A request that may be copied: protocol, body, Content-Type, Inference-Header-Content-Length."""
PendingEvent = tuple[str, float, float, int, Arrays, bytes, CopyableRequest | None, str | None]
"""What is kept of a request that was answered: id, `started` and `finished`, status, outputs; its body if events hold
it; itself if it may be copied; and the live answer that came with a copy. Without names: a NamedTuple takes longer to
make, and this is done at every request."""


class EventLog:
    """Writes the events of one process. Made after the fork; used from its event loop only.

    counters: those of the events and of the mirror. Without a spool ([serving] events is empty) nothing is recorded.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._settings = service.settings
        # Written ten times a second: a system call for every line is a seventh of what the line takes.
        self._lines: list[bytes] = []
        self._held = 0
        self._spool: SpoolWriter | None = None
        self._requests = 0
        self._left_out = 0.0
        self.counters = Counters()
        self.on = bool(service.settings.events)

    @property
    def open(self) -> bool:
        """Whether it is known where to write."""
        return self._spool is not None

    def start(self) -> None:
        """Begin to write once there is a model."""
        if self.on:
            gevent.spawn(self._run)

    def write(self, columns: bytes, requests: int) -> None:
        """Write a line of columns, which holds so many requests that were counted as recorded."""
        self._requests += requests
        self._lines += (columns, b"\n")
        self._held += requests

    def leave_out(self, cpu_seconds: float) -> None:
        """Processor time that is not to count as used: of what a ghost does that a live service would not do."""
        self._left_out += cpu_seconds

    def label(self, id: str, labels: Sequence[str | float | None]) -> bool:
        """Write what the rows of a request really were; False, and nothing is kept, where that cannot be done now.

        Labels are taken while half of the spool is free; the other half is kept for predictions.
        """
        model = self._service.model
        if not self.on or model is None or not (self.open or self._open(model)) or self._spool is None:
            return False
        line = _line({"kind": "label", "at": round(time.time(), 3), "id": id, "labels": list(labels)})
        if not self._spool.has_space(len(line), _LABELS_SHARE):
            return False
        self.counters.record()
        return self._spool.write(line, 1)

    def stop(self) -> None:
        """Write what waits, and finish the segment."""
        model = self._service.model
        # A server that is stopped soon after its start has answered requests, but not looked for its model yet.
        if self.on and self._lines and self._spool is None and model is not None:
            self._open(model)
        if self._spool is not None:
            self._write(self._spool)
            self._spool.close()
            self._spool = None
        self.on = False

    def _run(self) -> None:
        while self._service.model is None:
            gevent.sleep(_LOOK_SECONDS)
        if not self.on or not (self.open or self._open(self._service.model)):
            return
        usage = Usage()
        measured = time.monotonic()
        while self._spool is not None:
            now = time.monotonic()
            if now - measured >= _USAGE_SECONDS:
                measured = now
                self.counters.record()
                self._spool.write(_line(usage.event(self._requests, self._left_out)), 1)
                self._requests, self._left_out = 0, 0.0
            self._write(self._spool)
            self._spool.roll(now)
            gevent.sleep(_LOOK_SECONDS)

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
            return False
        before, self.counters, self._spool = self.counters, spool.counters, spool
        spool.counters.take_over(before)
        return True

    def _write(self, spool: SpoolWriter) -> None:
        if self._lines:
            lines, held = b"".join(self._lines), self._held
            self._lines.clear()
            self._held = 0
            spool.write(lines, held)


class Usage:
    """CPU and memory since the last time: of the container where there is one, of this process elsewhere."""

    def __init__(self, cgroup: Path = _CGROUP) -> None:
        self._cgroup = cgroup
        # The root group, that of a machine, has no such file.
        self._contained = (cgroup / "memory.current").is_file()
        self._before = (time.monotonic(), self._cpu_seconds())

    def event(self, requests: int, left_out: float = 0.0) -> dict[str, Any]:
        """As an event; requests: answered since the last time. left_out: CPU seconds; see contract/events.py."""
        now, cpu = time.monotonic(), self._cpu_seconds()
        seconds, used = now - self._before[0], cpu - self._before[1]
        self._before = (now, cpu)
        return {
            "kind": "usage",
            "at": round(time.time(), 3),
            "of": "container" if self._contained else "process",
            "seconds": round(seconds, 3),
            "cpu_seconds": round(used, 4),
            "left_out_cpu_seconds": round(left_out, 4),
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


def _line(event: dict[str, Any]) -> bytes:
    return orjson.dumps(event) + b"\n"


def _field(path: Path, name: str) -> int:
    lines = (line.split() for line in path.read_text().splitlines())
    return next((int(value) for field, value in lines if field == name), 0)
