"""Copies of requests for the ghost, made after their answers. Whatever the ghost does, the live service goes on.

A copy costs the event loop one write into a socket that does not block. Behind it is a process that does the rest, see
serving/sender.py: what it does not take at once is dropped and counted, and when it dies another one is started. A
request that is itself a copy is never copied.
"""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import gevent
import orjson
from gevent import socket

from artifacts.counters import UNSENT
from artifacts.events import SHARES, share
from serving.events import EventLog
from serving.exchange import REQUEST_ID_HEADER, Exchange
from serving.predicted import predicted, predicted_once
from serving.sender import FLUSH_SECONDS, LENGTH_BYTES, Plan
from serving.service import Service

LOG = logging.getLogger("gunicorn.error")
COPY_HEADER = "X-Ghost"
"""Marks a copy; its value is 1."""
LIVE_HEADER = "X-Live-Answer"
"""What the live service answered: JSON with version, ms, and labels and scores of the first rows."""

# Rows told to the ghost beside a copy, for its own metrics; the report compares all of them.
_ROWS_TOLD = 32
_RATE_SECONDS = 5.0
_LOOK_SECONDS = 1.0
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
        # The rest of a copy of which the socket took the beginning.
        self._rest = memoryview(b"")
        self._open()

    def start(self) -> None:
        """Begin to send."""
        gevent.spawn(self._keep_sender)
        if self._settings.ghost_sample_rate_file:
            gevent.spawn(self._watch_rate, Path(self._settings.ghost_sample_rate_file))

    def stop(self) -> None:
        """Let the sender send what waits, within its time."""
        self._stopped = True
        self._socket.close()
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
        head = self._head(exchange)
        size = len(head) + len(exchange.body)
        if self._rest or size > self._settings.ghost_queue_bytes:
            counters.add(UNSENT)
            return False
        head = size.to_bytes(LENGTH_BYTES, "big") + head
        try:
            taken = self._socket.sendmsg((head, exchange.body))
        # Full, or the sender is gone.
        except OSError:
            counters.add(UNSENT)
            return False
        if taken < LENGTH_BYTES + size:
            self._rest = memoryview(head + exchange.body)[taken:]
            gevent.spawn(self._send_rest)
        return True

    def _send_rest(self) -> None:
        mine = self._socket
        while self._rest and mine is self._socket:
            try:
                socket.wait_write(mine.fileno())
                self._rest = self._rest[mine.send(self._rest) :]
            except BlockingIOError:
                continue
            except OSError:
                self._rest = memoryview(b"")

    def _head(self, exchange: Exchange) -> bytes:
        environ = exchange.environ
        found = {"version": exchange.version, "ms": round(1000 * exchange.seconds, 3), "status": int(exchange.status)}
        if exchange.model is not None and exchange.outputs:
            few = exchange.rows <= _ROWS_TOLD
            first = () if few else [array[:_ROWS_TOLD] for array in exchange.outputs]
            found |= predicted_once(exchange) if few else predicted(exchange.model, first)
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
        self._rest = memoryview(b"")
        self._socket, self._other_end = socket.socketpair()
        self._socket.setblocking(False)

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
            self._socket.close()
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


def _environment() -> dict[str, str]:
    """That of this process, without what makes ddtrace start in every Python: the sender has nothing to trace."""
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = [path for path in paths if not path.endswith("ddtrace/bootstrap")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(kept)}
