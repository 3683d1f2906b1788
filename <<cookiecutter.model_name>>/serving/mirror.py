"""Copies of requests for the ghost, sent after their answers. Whatever the ghost does, the live service goes on.

A copy is queued when its answer has been sent; the queue is bounded in number and bytes and throws the oldest away. A
few greenlets post the copies over connections that they keep, each with a time limit; when the ghost fails five times
in a row, nothing is tried for a while, then one copy at a time. A request that is itself a copy is never copied.

The HTTP is spoken here: CPU of one POST of 500 bytes answered by 202 is 28 us, with geventhttpclient 94, with
http.client 156, with urllib3 252; a small request takes 110 to 200 in all.
"""

import json
import logging
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import gevent
import orjson
from gevent import socket
from gevent.lock import Semaphore

from artifacts.events import SHARES, share
from serving.events import EventLog
from serving.exchange import REQUEST_ID_HEADER, Exchange
from serving.predicted import predicted
from serving.service import Service

LOG = logging.getLogger("gunicorn.error")
COPY_HEADER = "X-Ghost"
"""Marks a copy; its value is 1."""
LIVE_HEADER = "X-Live-Answer"
"""What the live service answered: JSON with version, ms, and labels and scores of the first rows."""

_FAILURES = 5
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_LONGEST_HEAD = 8192
# Rows told to the ghost beside a copy, for its own metrics; the report compares all of them.
_ROWS_TOLD = 32
_RATE_SECONDS = 5.0
# Times of copies until somebody asks for them, every second where there are metrics.
_TIMES_KEPT = 1000


class Copy(NamedTuple):
    """A request to be sent, and its exchange for what was answered."""

    exchange: Exchange
    size: int


class BrokenError(Exception):
    """The ghost did not answer, or not in HTTP."""


class Mirror:
    """Sends copies of one process's requests. Made after the fork; used from its event loop only.

    log: its counters count what becomes of the copies. seconds: how long the last ones took, for who empties it.
    """

    def __init__(self, service: Service, log: EventLog) -> None:
        settings = service.settings
        self._settings = settings
        self._log = log
        paths = {"v1": f"/v1/models/{service.name}:predict", "v2": f"/v2/models/{service.name}/infer"}
        host = urlsplit(settings.ghost_url).netloc
        start = f"HTTP/1.1\r\nHost: {host}\r\n{COPY_HEADER}: 1\r\n"
        self._starts = {protocol: f"POST {path} {start}" for protocol, path in paths.items()}
        self._queue: deque[Copy] = deque()
        self._bytes = 0
        self._ready = Semaphore(0)
        self._below = int(settings.ghost_sample_rate * SHARES)
        self._failures = 0
        self._pause = _FIRST_PAUSE
        self._closed_until = 0.0
        self._probing = False
        self.seconds: deque[float] = deque(maxlen=_TIMES_KEPT)

    @property
    def waiting(self) -> int:
        """Copies in the queue."""
        return len(self._queue)

    def start(self) -> None:
        """Begin to send."""
        for _ in range(self._settings.ghost_connections):
            gevent.spawn(self._send_all)
        if self._settings.ghost_sample_rate_file:
            gevent.spawn(self._watch_rate, Path(self._settings.ghost_sample_rate_file))

    def offer(self, exchange: Exchange) -> bool:
        """Take up a copy of a request that has been answered; whether it is in the queue now.

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
        if self._failures >= _FAILURES:
            if self._probing or time.monotonic() < self._closed_until:
                counters.add("mirror_skipped")
                return False
            self._probing = True
        # 4 kB: what an exchange weighs without its arrays, which are about as large as its body.
        size = 2 * len(exchange.body) + 4096
        while self._queue and (
            len(self._queue) >= self._settings.ghost_queue or self._bytes + size > self._settings.ghost_queue_bytes
        ):
            self._bytes -= self._queue.popleft().size
            counters.add("mirror_dropped")
        if size > self._settings.ghost_queue_bytes:
            counters.add("mirror_dropped")
            return False
        self._queue.append(Copy(exchange, size))
        self._bytes += size
        self._ready.release()
        return True

    def _send_all(self) -> None:
        """Send copies, one after the other, on a connection of its own."""
        url = urlsplit(self._settings.ghost_url)
        connection = Connection(url.hostname or "", url.port or 80, self._settings.ghost_timeout_ms / 1000)
        while True:
            self._ready.acquire()
            # One that was thrown away has left its permit.
            if not self._queue:
                continue
            copy = self._queue.popleft()
            self._bytes -= copy.size
            started = time.monotonic()
            try:
                status = connection.post(self._head(copy.exchange), copy.exchange.body)
            except BrokenError as error:
                self._log.counters.add("mirror_failed")
                self._failed(str(error))
                continue
            except Exception:
                connection.close()
                self._log.counters.add("mirror_failed")
                self._failed("unforeseen")
                LOG.exception("a copy could not be sent to the ghost")
                continue
            self._log.counters.add("mirror_sent" if status == 202 else "mirror_refused")
            self.seconds.append(time.monotonic() - started)
            self._succeeded()

    def _head(self, exchange: Exchange) -> bytes:
        environ = exchange.environ
        found = {"version": exchange.version, "ms": round(1000 * exchange.seconds, 3), "status": int(exchange.status)}
        if exchange.model is not None and exchange.outputs:
            found |= predicted(exchange.model, [array[:_ROWS_TOLD] for array in exchange.outputs])
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

    def _failed(self, reason: str) -> None:
        self._failures += 1
        self._probing = False
        if self._failures < _FAILURES:
            return
        if self._failures == _FAILURES:
            LOG.warning("The ghost at %s fails (%s); no copies for a while", self._settings.ghost_url, reason)
        self._closed_until = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        # What waits would only find the same.
        self._log.counters.add("mirror_skipped", len(self._queue))
        self._queue.clear()
        self._bytes = 0

    def _succeeded(self) -> None:
        if self._failures >= _FAILURES:
            LOG.info("The ghost at %s answers again", self._settings.ghost_url)
        self._failures = 0
        self._probing = False
        self._pause = _FIRST_PAUSE

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


class Connection:
    """An HTTP connection that is kept. Speaks just enough: a POST, and the head of its answer."""

    def __init__(self, host: str, port: int, seconds: float) -> None:
        self._address = (host, port)
        self._seconds = seconds
        self._socket: socket.socket | None = None

    def post(self, head: bytes, body: bytes) -> int:
        """The status of the answer. Raises BrokenError within the time limit, whatever the other side does."""
        end = time.monotonic() + self._seconds
        kept = self._socket is not None
        try:
            return self._post(head, body, end)
        except BrokenError as error:
            self.close()
            # The other side may have closed what was idle, and never have seen the copy.
            if not kept or str(error) != _CLOSED:
                raise
        try:
            return self._post(head, body, end)
        except BrokenError:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _post(self, head: bytes, body: bytes, end: float) -> int:
        answer = b""
        try:
            if self._socket is None:
                self._socket = socket.create_connection(self._address, self._seconds)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.settimeout(max(0.001, end - time.monotonic()))
            self._socket.sendall(head + body)
            while b"\r\n\r\n" not in answer:
                self._socket.settimeout(max(0.001, end - time.monotonic()))
                part = self._socket.recv(4096)
                if not part:
                    raise BrokenError("it answered with no HTTP" if answer else _CLOSED)
                answer += part
                if not answer.startswith(b"HTTP/1."[: len(answer)]) or len(answer) > _LONGEST_HEAD:
                    raise BrokenError("it answered with no HTTP")
                if time.monotonic() > end:
                    raise TimeoutError
        except TimeoutError:
            raise BrokenError(f"no answer within {self._seconds:g} s") from None
        except OSError as error:
            raise BrokenError(_CLOSED if isinstance(error, ConnectionError) and not answer else str(error)) from None
        status = answer[9:12]
        if not status.isdigit():
            raise BrokenError("it answered with no HTTP")
        # A body is not read: the next answer would begin in it.
        fields = answer.lower()
        if status != b"202" or b"\r\ncontent-length: 0\r\n" not in fields or b"\r\nconnection: close\r\n" in fields:
            self.close()
        return int(status)


_CLOSED = "it closed the connection"
