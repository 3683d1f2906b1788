"""Sends copies of requests to the ghost: a process beside a worker, so that the worker's event loop does not.

Started by serving/mirror.py, which writes the copies into a socket, many in a bundle. Here they become HTTP requests,
which wait in a queue that is bounded in number and bytes and throws the oldest away; a few greenlets post them over
connections that they keep, each with a time limit. When the ghost fails five times in a
row, nothing is tried for a while, then one copy at a time. What becomes of the copies is counted in memory that the
worker shares. When the worker closes the socket, or dies, what waits is sent for two seconds more.

The HTTP is spoken here: CPU of one POST of 500 bytes answered by 202 is 28 us, with geventhttpclient 94, with
http.client 156, with urllib3 252; a small request takes 110 to 200 in all.
"""

import json
import logging
import mmap
import os
import signal
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import gevent
import orjson
from gevent import socket
from gevent.lock import Semaphore

from artifacts import events
from artifacts.counters import COUNTERS_BYTES, Counters
from artifacts.events import REQUEST_ID_HEADER
from telemetry import agent, logs
from telemetry.registry import GHOST_COPY_SECONDS

LOG = logging.getLogger(__name__)
FLUSH_SECONDS = 2.0
"""Time for what waits when the worker ends."""
BUNDLE = struct.Struct("!III")
"""Begins a bundle: bytes that follow, copies, and bytes of its head. After the head come the bodies of the copies.

The head is JSON: `columns` holds the copies among other requests, as those that are mirrored (see artifacts/events.py),
`version` is the model's that answered, `requests` has protocol, Content-Type or null, Inference-Header-Content-Length
or null, and length of the body for each copy.
"""
COPY_HEADER = "X-Ghost"
"""Marks a copy; its value is 1."""
COPY_VARIABLE = "HTTP_X_GHOST"
"""The same header in the WSGI environment."""
LIVE_HEADER = "X-Live-Answer"
"""What the live service answered: JSON with version, ms, and labels and scores of the first rows."""

_FAILURES = 5
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_LONGEST_HEAD = 8192
_READ_BYTES = 1 << 18
_REPORT_SECONDS = 1.0
# Copies leave so long after their answers, so at the pace at which the requests came: those of a bundle at once would
# keep each other waiting in the ghost. What is late leaves in small groups: a process that does not sleep can keep the
# core for milliseconds from the live service, also with SCHED_IDLE (measured: a p99 of 5 ms instead of 1.5).
_AGE_SECONDS, _GROUP, _BREATH_SECONDS = 0.03, 8, 0.0005
# Rows told to the ghost beside a copy, for its own metrics; the report compares all of them.
_ROWS_TOLD = 32
# Times of copies until they are reported.
_TIMES_KEPT = 1000


@dataclass(frozen=True)
class Plan:
    """Where copies go, and within which bounds; see ServingSettings. service: its name, for logs and metrics."""

    service: str
    url: str
    timeout_ms: int
    connections: int
    queue: int
    queue_bytes: int

    def arguments(self, copies: int, counters: int) -> list[str]:
        """For `python -m serving.sender`; copies, counters: the file descriptors that it inherits."""
        return [json.dumps(asdict(self)), str(copies), str(counters)]


class BrokenError(Exception):
    """The ghost did not answer, or not in HTTP."""


class Copy(NamedTuple):
    """A request for the ghost. columns, place, first_row: where what was answered stands; see artifacts/events.py.

    answered: on the monotonic clock, which is the same in all processes. content_type, json_length: headers.
    """

    answered: float
    columns: Mapping[str, Any]
    place: int
    first_row: int
    version: str
    protocol: str
    content_type: str | None
    json_length: str | None
    body: bytes


class Sender:
    """The queue and what empties it. counters: it raises those of what becomes of copies."""

    def __init__(self, plan: Plan, counters: Counters) -> None:
        self._plan = plan
        self._counters = counters
        self._queue: deque[Copy] = deque()
        self._bytes = 0
        self._busy = 0
        self._ready = Semaphore(0)
        # Held by who waits for the time of the oldest copy.
        self._pace = Semaphore(1)
        self._paced = True
        self._at_once = 0
        self._failures = 0
        self._pause = _FIRST_PAUSE
        self._closed_until = 0.0
        self._probing = False
        start = f"HTTP/1.1\r\nHost: {urlsplit(plan.url).netloc}\r\n{COPY_HEADER}: 1\r\n"
        paths = {"v1": f"/v1/models/{plan.service}:predict", "v2": f"/v2/models/{plan.service}/infer"}
        self._starts = {protocol: f"POST {path} {start}" for protocol, path in paths.items()}
        self.seconds: deque[float] = deque(maxlen=_TIMES_KEPT)

    def start(self) -> None:
        """Begin to send."""
        for _ in range(self._plan.connections):
            gevent.spawn(self._send_all)

    def read(self, copies: socket.socket) -> None:
        """Take up copies until the other end is closed."""
        found = bytearray()
        while part := copies.recv(_READ_BYTES):
            found += part
            at = 0
            while len(found) - at >= BUNDLE.size:
                size, copies_in_it, head_size = BUNDLE.unpack_from(found, at)
                start, end = at + BUNDLE.size, at + BUNDLE.size + size
                if end > len(found):
                    break
                if self._skips():
                    self._counters.add("mirror_skipped", copies_in_it)
                else:
                    for copy in _copies(bytes(found[start : start + head_size]), found[start + head_size : end]):
                        self.take(copy)
                at = end
            del found[:at]

    def take(self, copy: Copy) -> None:
        """Put a copy into the queue, unless the ghost is known to fail."""
        if self._skips():
            self._counters.add("mirror_skipped")
            return
        self._probing = self._failures >= _FAILURES
        while self._queue and (
            len(self._queue) >= self._plan.queue or self._bytes + len(copy.body) > self._plan.queue_bytes
        ):
            self._bytes -= len(self._queue.popleft().body)
            self._counters.add("mirror_dropped")
        self._queue.append(copy)
        self._bytes += len(copy.body)
        self._ready.release()

    def _skips(self) -> bool:
        """Whether the ghost is known to fail, and it is not time to try one copy."""
        return self._failures >= _FAILURES and (self._probing or time.monotonic() < self._closed_until)

    def flush(self, seconds: float) -> None:
        """Wait until nothing waits, at most so long; what waits then is counted as dropped."""
        self._paced = False
        end = time.monotonic() + seconds
        while (self._queue or self._busy) and time.monotonic() < end:
            gevent.sleep(0.01)
        self._counters.add("mirror_dropped", len(self._queue) + self._busy)
        self._queue.clear()

    def _send_all(self) -> None:
        """Send copies, one after the other, on a connection of its own."""
        url = urlsplit(self._plan.url)
        connection = Connection(url.hostname or "", url.port or 80, self._plan.timeout_ms / 1000)
        while True:
            self._ready.acquire()
            with self._pace:
                self._wait_for_its_time()
                # One that was thrown away has left its permit.
                if not self._queue:
                    continue
                copy = self._queue.popleft()
                self._bytes -= len(copy.body)
                self._busy += 1
            started = time.monotonic()
            try:
                status = connection.post(self._request(copy))
            except BrokenError as error:
                self._counters.add("mirror_failed")
                self._failed(str(error))
            except Exception:
                connection.close()
                self._counters.add("mirror_failed")
                self._failed("unforeseen")
                LOG.exception("a copy could not be sent to the ghost")
            else:
                self._counters.add("mirror_sent" if status == 202 else "mirror_refused")
                self.seconds.append(time.monotonic() - started)
                self._succeeded()
            self._busy -= 1

    def _wait_for_its_time(self) -> None:
        """Until the oldest copy is as old as all are when they leave, and a moment longer after a group."""
        while self._queue and self._paced:
            wait = self._queue[0].answered + _AGE_SECONDS - time.monotonic()
            if wait <= 0 and self._at_once < _GROUP:
                self._at_once += 1
                return
            # Not for longer, in case this one is thrown away, or all are to leave now.
            gevent.sleep(min(max(wait, _BREATH_SECONDS), _AGE_SECONDS))
            self._at_once = 0

    def _request(self, copy: Copy) -> bytes:
        """As an HTTP request."""
        event = events.row(copy.columns, copy.place, copy.first_row)
        told = {"version": copy.version, "ms": event["ms"], "status": event["status"]}
        told |= {name: event[name][:_ROWS_TOLD] for name in ("labels", "scores") if name in event}
        answer = orjson.dumps(told).decode()
        # Headers are ASCII, which a label need not be; the standard library escapes, at five times the price.
        answer = answer if answer.isascii() else json.dumps(told)
        binary = f"Inference-Header-Content-Length: {copy.json_length}\r\n" if copy.json_length is not None else ""
        return (
            f"{self._starts[copy.protocol]}Content-Length: {len(copy.body)}\r\n"
            f"Content-Type: {copy.content_type or 'application/json'}\r\n"
            f"{REQUEST_ID_HEADER}: {event['id']}\r\n{LIVE_HEADER}: {answer}\r\n{binary}\r\n"
        ).encode("latin-1", "replace") + copy.body

    def _failed(self, reason: str) -> None:
        self._failures += 1
        self._probing = False
        # Those that were under way when it was given up say nothing new.
        if self._failures < _FAILURES or time.monotonic() < self._closed_until:
            return
        if self._failures == _FAILURES:
            LOG.warning("The ghost at %s fails (%s); no copies for a while", self._plan.url, reason)
        self._closed_until = time.monotonic() + self._pause
        # Not even handed over meanwhile: what is not taken up costs the live service nothing.
        self._counters.pause(True)
        gevent.spawn_later(self._pause, self._counters.pause, False)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        # What waits would only find the same.
        self._counters.add("mirror_skipped", len(self._queue))
        self._queue.clear()
        self._bytes = 0

    def _succeeded(self) -> None:
        if self._failures >= _FAILURES:
            LOG.info("The ghost at %s answers again", self._plan.url)
        self._failures = 0
        self._probing = False
        self._pause = _FIRST_PAUSE
        self._counters.pause(False)


def _copies(head: bytes, bodies: bytearray) -> Iterator[Copy]:
    """Those of a bundle."""
    bundle = orjson.loads(head)
    columns, version, requests = bundle["columns"], bundle["version"], iter(bundle["requests"])
    row = body = 0
    for place, (count, mirrored) in enumerate(zip(columns["rows"], columns["mirrored"], strict=True)):
        if mirrored:
            protocol, content_type, json_length, size = next(requests)
            answered = columns["finished"][place]
            sent = bytes(bodies[body : body + size])
            yield Copy(answered, columns, place, row, version, protocol, content_type, json_length, sent)
            body += size
        row += count


class Connection:
    """An HTTP connection that is kept. Speaks just enough: a POST, and the head of its answer."""

    def __init__(self, host: str, port: int, seconds: float) -> None:
        self._address = (host, port)
        self._seconds = seconds
        self._socket: socket.socket | None = None

    def post(self, request: bytes) -> int:
        """The status of the answer. Raises BrokenError within the time limit, whatever the other side does."""
        end = time.monotonic() + self._seconds
        kept = self._socket is not None
        try:
            return self._post(request, end)
        except BrokenError as error:
            self.close()
            # The other side may have closed what was idle, and never have seen the copy.
            if not kept or str(error) != _CLOSED:
                raise
        try:
            return self._post(request, end)
        except BrokenError:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _post(self, request: bytes, end: float) -> int:
        answer = b""
        try:
            if self._socket is None:
                self._socket = socket.create_connection(self._address, self._seconds)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.settimeout(max(0.001, end - time.monotonic()))
            self._socket.sendall(request)
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


def main(arguments: Sequence[str]) -> int:
    """Send what comes through one file descriptor, count in what the other one holds; see Plan.arguments."""
    # The worker says when it is over; signals for the whole group, as of Ctrl-C, would come too early.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _give_way()
    plan = Plan(**json.loads(arguments[0]))
    copies = socket.socket(fileno=int(arguments[1]))
    if logs.wants_json(os.environ):
        logs.log_json(plan.service)
    else:
        logging.basicConfig(level=logging.INFO, format="[%(process)d] [%(levelname)s] %(message)s")
    sender = Sender(plan, Counters(mmap.mmap(int(arguments[2]), COUNTERS_BYTES)))
    sender.start()
    report = _reporting(plan.service, sender)
    sender.read(copies)
    sender.flush(FLUSH_SECONDS)
    report()
    return 0


def _give_way() -> None:
    """Run only when nobody else in the container wants the core: the worker is woken as if this process slept."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    # Not on macOS; not allowed in every sandbox.
    except (AttributeError, OSError):
        with suppress(OSError):
            os.nice(10)


def _reporting(service: str, sender: Sender) -> Callable[[], None]:
    """Report every second how long copies took, where there is an agent; returns what does it once more."""
    if not agent.takes_metrics(os.environ):
        return lambda: None
    from telemetry.metrics import Client, Metrics

    metrics = Metrics(Client(service, "live"))

    def report() -> None:
        seconds = list(sender.seconds)
        sender.seconds.clear()
        metrics.distribution(GHOST_COPY_SECONDS, seconds)
        metrics.send()

    def run() -> None:
        while True:
            gevent.sleep(_REPORT_SECONDS)
            report()

    gevent.spawn(run)
    return report


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
