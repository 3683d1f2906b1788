"""Copies of requests for the ghost, made after their answers. Whatever the ghost does, the live service goes on.

Copies wait for 10 ms, then one write hands up to 32 of them to a process that does the rest, see serving/sender.py: one
by one, each would wake it, which takes the core from requests. When more wait than may, because it does not take them,
new ones are dropped and counted; when it dies another one is started. A request that is itself a copy is never copied.
"""

import json
import logging
import os
import subprocess
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import gevent
import orjson
from gevent import socket

from artifacts.counters import UNSENT
from artifacts.events import SHARES, share
from serving.events import EventLog
from serving.exchange import REQUEST_ID_HEADER, Exchange
from serving.predicted import predicted_by
from serving.sender import FLUSH_SECONDS, LENGTH_BYTES, Plan
from serving.service import Service

LOG = logging.getLogger("gunicorn.error")
COPY_HEADER = "X-Ghost"
"""Marks a copy; its value is 1."""
LIVE_HEADER = "X-Live-Answer"
"""What the live service answered: JSON with version, ms, and labels and scores of the first rows."""

# How long copies wait for others. So many are handed over in a turn of 0.3 ms, which a request may have to wait; a
# pause lets others in: gevent runs what asks for the next turn for 5 ms before it looks at a socket.
_GATHER_SECONDS = 0.01
_TURN, _PAUSE_SECONDS = 32, 0.001
# Copies that wait here, and their bodies; one is taken whatever its size. The queue is the sender's: more wait here
# only when it does not read, and each keeps its request and its answer.
_MOST_WAITING, _MOST_WAITING_BYTES = 1000, 1 << 19
# Rows told to the ghost beside a copy, for its own metrics; the report compares all of them.
_ROWS_TOLD = 32
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
        paths = {"v1": f"/v1/models/{service.name}:predict", "v2": f"/v2/models/{service.name}/infer"}
        host = urlsplit(settings.ghost_url).netloc
        start = f"HTTP/1.1\r\nHost: {host}\r\n{COPY_HEADER}: 1\r\n"
        self._starts = {protocol: f"POST {path} {start}" for protocol, path in paths.items()}
        self._below = int(settings.ghost_sample_rate * SHARES)
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self._waiting: deque[Exchange] = deque()
        self._waiting_bytes = 0
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
        if self._process is None:
            return
        try:
            self._process.wait(FLUSH_SECONDS + 1)
        except subprocess.TimeoutExpired:
            LOG.warning("The sender of copies for the ghost did not end; it is killed")
            self._process.kill()
            self._process.wait()
        self._log.counters.add(UNSENT, self._log.counters.waiting)

    def offer(self, exchange: Exchange) -> bool:
        """Hand over a copy of a request that has been answered, if it is one to be copied; whether it was taken.

        Which requests are sampled follows from their ids. Not copied: what is a copy, what had no body that could be
        read, and what was answered with 5xx, because a service in trouble needs no more work.
        """
        environ = exchange.environ
        if not self._below or exchange.status >= 500 or not exchange.body or "HTTP_X_GHOST" in environ:
            return False
        if share(exchange.request_id) >= self._below:
            return False
        counters = self._log.counters
        counters.add("mirror_offered")
        size = len(exchange.body)
        full = len(self._waiting) >= _MOST_WAITING or self._waiting_bytes + size > _MOST_WAITING_BYTES
        if not self._taking or (self._waiting and full) or size > self._settings.ghost_queue_bytes:
            counters.add(UNSENT)
            return False
        self._waiting.append(exchange)
        self._waiting_bytes += size
        if not self._handing_over:
            self._handing_over = gevent.spawn_later(_GATHER_SECONDS, self._hand_over)
        return True

    def _hand_over(self) -> None:
        """Write what waits into the socket."""
        mine = self._socket
        # The sender is gone, or the socket is closed: _keep_sender counts what is lost.
        with suppress(OSError):
            while self._waiting:
                some = [self._waiting.popleft() for _ in range(min(_TURN, len(self._waiting)))]
                self._waiting_bytes -= sum(len(exchange.body) for exchange in some)
                parts: list[bytes | memoryview] = []
                for exchange in some:
                    head = self._head(exchange)
                    size = len(head) + len(exchange.body)
                    parts += (size.to_bytes(LENGTH_BYTES, "big") + head, exchange.body)
                _write(mine, parts)
                if self._waiting:
                    gevent.sleep(_PAUSE_SECONDS)

    def _head(self, exchange: Exchange) -> bytes:
        environ = exchange.environ
        found = {"version": exchange.version, "ms": round(1000 * exchange.seconds, 3), "status": int(exchange.status)}
        if (whole := predicted_by(exchange)) is not None:
            found |= {name: rows[:_ROWS_TOLD] for name, rows in whole().items()}
        answer = orjson.dumps(found).decode()
        # Headers are ASCII, which a label need not be; the standard library escapes, at five times the price.
        answer = answer if answer.isascii() else json.dumps(found)
        json_length = environ.get("HTTP_INFERENCE_HEADER_CONTENT_LENGTH")
        binary = f"Inference-Header-Content-Length: {json_length}\r\n" if json_length is not None else ""
        return (
            f"{self._starts[exchange.protocol]}Content-Length: {len(exchange.body)}\r\n"
            f"Content-Type: {environ.get('CONTENT_TYPE') or 'application/json'}\r\n"
            f"{REQUEST_ID_HEADER}: {exchange.request_id}\r\n{LIVE_HEADER}: {answer}\r\n{binary}\r\n"
        ).encode("latin-1", "replace")

    def _open(self) -> None:
        """A new socket; the other end waits for a sender."""
        self._socket, self._other_end = socket.socketpair()
        self._taking = True

    def _close(self) -> None:
        """Let go of the socket, and of what waits for it."""
        self._taking = False
        self._socket.close()
        self._waiting.clear()
        self._waiting_bytes = 0

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
