"""Copies of requests for the ghost, made after their answers. Whatever the ghost does, the live service goes on.

Copies leave in bundles, each by one write, to a process that does the rest, see serving/sender.py: one by one, each
would wake it, which takes the core from requests. When more wait than may, because it does not take them, new ones are
dropped and counted; when it dies another one is started. A request that is itself a copy is never copied.
"""

import logging
import os
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import gevent
import orjson
from gevent import socket

from artifacts.counters import UNSENT, UNTRIED
from artifacts.events import SHARES, share
from serving.events import Asked, EventLog
from serving.sender import BUNDLE, FLUSH_SECONDS, Plan
from serving.service import Service

LOG = logging.getLogger("gunicorn.error")

# Copies that wait here, and their bodies; one is taken whatever its size. The queue is the sender's: more wait here
# only when it does not read.
_MOST_WAITING, _MOST_WAITING_BYTES = 1000, 1 << 19
_RATE_SECONDS = 5.0
_LOOK_SECONDS = 1.0
# For what waits when the server stops.
_HAND_OVER_SECONDS = 1.0
# Between two starts of the sender, doubled each time.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_ROOT = Path(__file__).resolve().parents[1]


class Mirror:
    """Hands copies of one process's requests to its sender. Made after the fork; used from its event loop only.

    log: its counters count what becomes of the copies.
    """

    def __init__(self, service: Service, log: EventLog) -> None:
        settings = service.settings
        self._settings = settings
        self._log = log
        self._plan = Plan(
            service=service.name,
            url=settings.ghost_url,
            timeout_ms=settings.ghost_timeout_ms,
            connections=settings.ghost_connections,
            queue=settings.ghost_queue,
            queue_bytes=settings.ghost_queue_bytes,
        )
        self._below = int(settings.ghost_sample_rate * SHARES)
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self._bundles: deque[list[bytes | memoryview]] = deque()
        self._waiting = self._waiting_bytes = 0
        self._handing_over: gevent.Greenlet[[], None] | None = None
        self._open()

    def start(self) -> None:
        """Begin to send."""
        gevent.spawn(self._keep_sender)
        if self._settings.ghost_sample_rate_file:
            gevent.spawn(self._watch_rate, Path(self._settings.ghost_sample_rate_file))

    def stop(self) -> None:
        """Let the sender send what waits, within its time."""
        self._stopped = True
        if self._handing_over:
            self._handing_over.join(_HAND_OVER_SECONDS)
        self._close()
        if self._process is not None:
            try:
                self._process.wait(FLUSH_SECONDS + 1)
            except subprocess.TimeoutExpired:
                LOG.warning("The sender of copies for the ghost did not end; it is killed")
                self._process.kill()
                self._process.wait()
        self._log.counters.add(UNSENT, self._log.counters.waiting)

    def take(self, ids: Sequence[str], asked: Sequence[Asked | None]) -> list[bool]:
        """Of which requests a copy is sent; those that find no room, or a ghost that fails, are dropped and counted.

        Which ones are sampled follows from their ids. asked: None for what is not to be copied.
        """
        below = self._below
        if not below:
            return []
        return [
            each is not None and (below >= SHARES or share(id) < below) and self._takes(len(each[1]))
            for id, each in zip(ids, asked, strict=True)
        ]

    def _takes(self, size: int) -> bool:
        counters = self._log.counters
        counters.add("mirror_offered")
        if counters.paused:
            counters.add(UNTRIED)
            return False
        full = self._waiting >= _MOST_WAITING or self._waiting_bytes + size > _MOST_WAITING_BYTES
        if not self._taking or (self._waiting and full) or size > self._settings.ghost_queue_bytes:
            counters.add(UNSENT)
            return False
        self._waiting += 1
        self._waiting_bytes += size
        return True

    def hand_over(self, columns: bytes, version: str, copies: Sequence[Asked]) -> None:
        """Give copies that were taken to the sender. columns: a line that holds them as those that are mirrored."""
        bodies = [body for _, body, _, _ in copies]
        bundle = {
            "columns": orjson.Fragment(columns),
            "version": version,
            "requests": [(protocol, kind, json_length, len(body)) for protocol, body, kind, json_length in copies],
        }
        head = orjson.dumps(bundle)
        size = len(head) + sum(len(body) for body in bodies)
        self._bundles.append([BUNDLE.pack(size, len(bodies), len(head)) + head, *bodies])
        if not self._handing_over:
            self._handing_over = gevent.spawn(self._hand_over)

    def _hand_over(self) -> None:
        """Write what waits into the socket."""
        mine = self._socket
        # The sender is gone, or the socket is closed: _keep_sender counts what is lost.
        with suppress(OSError):
            while self._bundles:
                bundle = self._bundles.popleft()
                self._waiting -= len(bundle) - 1
                self._waiting_bytes -= sum(len(body) for body in bundle[1:])
                _write(mine, bundle)

    def _open(self) -> None:
        """A new socket; the other end waits for a sender."""
        self._socket, self._other_end = socket.socketpair()
        self._taking = True

    def _close(self) -> None:
        """Let go of the socket, and of what waits for it."""
        self._taking = False
        self._socket.close()
        self._bundles.clear()
        self._waiting = self._waiting_bytes = 0

    def _keep_sender(self) -> None:
        """Start the sender once it is known where counts are kept; another one when it has died."""
        while self._log.on and not self._log.open:
            gevent.sleep(0.05)
        pause = _FIRST_PAUSE
        while not self._stopped:
            self._start_sender()
            while not self._stopped and self._process is not None and self._process.poll() is None:
                gevent.sleep(_LOOK_SECONDS)
            if self._stopped:
                return
            self._close()
            lost = self._log.counters.waiting
            self._log.counters.add(UNSENT, lost)
            LOG.error("The sender of copies for the ghost has ended; %d copies are lost, another one is started", lost)
            gevent.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            self._open()

    def _start_sender(self) -> None:
        self._log.counters.pause(False)
        with self._other_end as copies:
            descriptors = (copies.fileno(), self._log.shared_counters())
            command = [sys.executable, "-m", "serving.sender", *self._plan.arguments(*descriptors)]
            try:
                self._process = subprocess.Popen(command, cwd=_ROOT, env=_environment(), pass_fds=descriptors)  # noqa: S603
            except OSError as error:
                LOG.error("The sender of copies for the ghost could not be started: %s", error)

    def _watch_rate(self, path: Path) -> None:
        """Follow a file that holds the rate, such as a mounted ConfigMap, so that no restart is needed.

        While it is not there, the rate is that of the settings.
        """
        told = ""
        while True:
            try:
                content = path.read_text(encoding="utf-8").strip() if path.exists() else ""
                rate = float(content) if content else self._settings.ghost_sample_rate
                if not 0 <= rate <= 1:
                    raise ValueError(content)
            except (OSError, ValueError) as error:
                if told != str(error):
                    LOG.error("ghost_sample_rate_file %s: %s; expected a number from 0 to 1", path, error)
                told = str(error)
            else:
                told = ""
                if int(rate * SHARES) != self._below:
                    self._below = int(rate * SHARES)
                    LOG.info("Sample rate for the ghost: %g", rate)
            gevent.sleep(_RATE_SECONDS)


def _write(to: socket.socket, parts: list[bytes | memoryview]) -> None:
    """Write all of the parts, which are used up. Raises OSError."""
    while parts:
        written = to.sendmsg(parts)
        whole = 0
        while whole < len(parts) and written >= len(parts[whole]):
            written -= len(parts[whole])
            whole += 1
        del parts[:whole]
        if parts:
            parts[0] = memoryview(parts[0])[written:]


def _environment() -> dict[str, str]:
    """That of this process, without what makes ddtrace start in every Python: the sender has nothing to trace."""
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = [path for path in paths if not path.endswith("ddtrace/bootstrap")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(kept)}
