"""One client's connection: from bytes to requests, from answers to bytes, and the time limits on the way.

A greenlet for each connection runs `serve`. request_parser.py makes requests of the bytes, request_head.py refuses what
is not clear. Predict requests are answered straight from here, all others through WSGI.
"""

import io
import logging
import math
import random
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from enum import IntEnum
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

import gevent

from mlplatform.serving.errors import RequestError, status_line
from mlplatform.serving.http.request_head import Environ, read_head
from mlplatform.serving.http.request_parser import Request, RequestParser

LOG = logging.getLogger("gunicorn.error")

_PIECE, _LARGE_PIECE = 1 << 14, 1 << 18
# Copying a larger body costs more than a second system call.
_JOINED = 1 << 16
# So much of a request that is refused is read and thrown away, so that the connection can go on.
_SKIPPED = 1 << 16
_LINGER_SECONDS = 2.0
_READ, _WRITE = 1, 2


class State(IntEnum):
    """What a connection is at. The template's docs/decisions.md has the picture."""

    WAITING = 0
    """for the first byte of a request"""
    HEAD = 1
    """for the rest of its head"""
    BODY = 2
    """for the rest of its body"""
    ANSWERING = 3
    """the application works"""
    SENDING = 4
    """for the client to take the answer"""
    CLOSING = 5
    """for the client to close as well: who closes alone takes back what the client has not read yet"""


class Limits(Protocol):
    """The settings that concern connections; see ServingSettings."""

    keepalive_seconds: float
    keepalive_max_seconds: float
    keepalive_max_requests: int
    read_seconds: float
    write_seconds: float
    max_body_bytes: int


class Answer(NamedTuple):
    """An answer. status: such as `200 OK`. sent: is called once it has been sent, or could not be."""

    status: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    sent: Callable[[], None]


class Application(NamedTuple):
    """What answers. directly: the answer to a request that it knows how to answer without WSGI, else None."""

    wsgi: Callable[..., Iterable[bytes]]
    directly: Callable[[Environ], Answer | None]


class Shared:
    """What the connections of a process share.

    draining: whether every answer is its connection's last. date: now, as HTTP has it.
    """

    def __init__(
        self, limits: Limits, application: Application, environ: Environ, draining: Callable[[], bool]
    ) -> None:
        self.limits = limits
        self.application = application
        self.environ = environ
        self.draining = draining
        self.date = ""
        self.seconds = (
            limits.keepalive_seconds,
            limits.read_seconds,
            limits.read_seconds,
            # The application has a deadline of its own.
            math.inf,
            limits.write_seconds,
            _LINGER_SECONDS,
        )
        """The time limit of each state. A body has what its head has left over, if that came in parts."""


class ClientConnection:
    """A connection that a client has opened.

    client: a plain socket that does not block, not one of gevent's. state: what it is at. answered: requests so far.
    Times on the monotonic clock: deadline: when it is to be `cut`. idle_since: when it was opened, or its last request
    was done. refused_until: when a client that was refused for overload may come again.
    """

    answered = 0
    refused_until = 0.0
    _too_slow = False
    _broken = False
    _expects_continue = False
    _request = Request()
    _content: bytes | None = None

    def __init__(self, client: socket.socket, address: tuple[Any, ...], shared: Shared) -> None:
        self.address = str(address[0])
        self._shared = shared
        self._socket = client
        self._hub = gevent.get_hub()
        self._readable = self._hub.loop.io(client.fileno(), _READ)
        self._parser = RequestParser()
        self._environ = {**shared.environ, "REMOTE_ADDR": self.address, "serving.connection": self}
        # Spread, so that connections that were opened together do not end together.
        spread = random.uniform(0.5, 1)  # noqa: S311
        self._last_request = max(1, round(spread * shared.limits.keepalive_max_requests))
        self._enter(State.WAITING)
        self._ages_at = self.idle_since + spread * shared.limits.keepalive_max_seconds
        # Whoever has just connected has something to ask.
        self.deadline = self.idle_since + shared.limits.read_seconds

    def serve(self) -> None:
        """Answer requests until one side closes; in a greenlet of its own."""
        try:
            while self._next_request() and self._answer_request() and self._finish_request():
                pass
            self._linger()
        except OSError as error:
            LOG.debug("%s has gone: %s", self.address, error)
        finally:
            self._readable.close()
            self._socket.close()

    def cut(self) -> None:
        """End what has taken too long: say why to a client that has begun to ask, unless it was told already."""
        says_why = self.state in (State.HEAD, State.BODY) and not self._too_slow
        self._too_slow = True
        self.deadline = time.monotonic() + self._shared.limits.write_seconds
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD if says_why else socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection, whatever it is at. Its greenlet notices."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def gone(self) -> bool:
        """Whether the client has hung up. One system call."""
        try:
            return not self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def read_body(self, most: int) -> bytes:
        """The body as it was sent, of at most `most` bytes; the same whenever it is asked for.

        Raises RequestError: 400 broken or cut short, 408 too slow, 413 too large.
        """
        request = self._request
        if self._content is None:
            if (request.content_length or 0) > most:
                raise _too_large(most)
            if not request.complete and self._expects_continue:
                self._ask_for_body()
            while not request.complete and len(request.body) <= most:
                self._more()
            if len(request.body) > most:
                raise _too_large(most)
            if self.state != State.ANSWERING:
                self._enter(State.ANSWERING)
            self._content = bytes(request.body)
        if len(self._content) > most:
            raise _too_large(most)
        return self._content

    def _enter(self, state: State) -> None:
        self.state = state
        now = time.monotonic()
        if state == State.WAITING:
            self.idle_since = now
        self.deadline = now + self._shared.seconds[state]

    def _next_request(self) -> bool:
        """Read until there is a head; whether there is one. What is no HTTP is answered here."""
        parser = self._parser
        if parser.requests:
            # It came together with the one before: first let others have their turn.
            gevent.sleep(0)
        elif parser.error is None:
            # Also if there is something already: those come first that have waited for longer.
            self._hub.wait(self._readable)
            data = self._socket.recv(_PIECE)
            if not data:
                return False
            parser.feed(data)
        if not parser.requests:
            self._enter(State.HEAD)
            try:
                while not parser.requests:
                    self._more()
            except RequestError as error:
                return self._refuse(error)
        self._request = parser.requests.popleft()
        return True

    def _answer_request(self) -> bool:
        """Answer the request whose head is here; whether the connection goes on."""
        self._content = None
        if self._request.complete:
            self._enter(State.ANSWERING)
        elif self.state == State.HEAD:
            # Without a new deadline.
            self.state = State.BODY
        else:
            self._enter(State.BODY)
        try:
            environ = read_head(self._request, self._environ)
        except RequestError as error:
            return self._refuse(error)
        self._expects_continue = "HTTP_EXPECT" in environ and environ["SERVER_PROTOCOL"] != "HTTP/1.0"
        answer = self._shared.application.directly(environ)
        if answer is None:
            return self._answer_by_wsgi(environ)
        try:
            return self._send(answer.status, answer.headers, answer.body)
        finally:
            answer.sent()

    def _answer_by_wsgi(self, environ: Environ) -> bool:
        started: list[Any] = []
        written: list[bytes] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., Any]:
            started[:] = status, headers
            return written.append

        environ["wsgi.input"] = _BodyFile(self, self._shared.limits.max_body_bytes)
        content: Iterable[bytes] = ()
        try:
            content = self._shared.application.wsgi(environ, start_response)
            # Whole, so that its length can be told.
            body = b"".join([*written, *content])
            status, headers = started
        except Exception:
            LOG.exception("%s %s failed", environ["REQUEST_METHOD"], environ["PATH_INFO"])
            reason = "internal error; the server's log says more"
            return self._refuse(RequestError(HTTPStatus.INTERNAL_SERVER_ERROR, reason, close=True))
        try:
            return self._send(status, headers, body, only_head=environ["REQUEST_METHOD"] == "HEAD")
        finally:
            if hasattr(content, "close"):
                content.close()

    def _refuse(self, error: RequestError) -> bool:
        """Answer what is not to be understood. The connection ends."""
        self._broken = True
        headers = [("Content-Type", "application/json"), *error.headers]
        return self._send(status_line(error.status), headers, error.body)

    def _send(self, status: str, headers: Iterable[tuple[str, str]], body: bytes, only_head: bool = False) -> bool:
        """Send an answer; whether the connection goes on."""
        goes_on = self._may_go_on()
        length = len(body)
        lines = [f"HTTP/1.1 {status}\r\nDate: {self._shared.date}"]
        for name, value in headers:
            lower = name.lower()
            if lower == "content-length":
                length = int(value) if only_head else length
            elif lower == "connection":
                goes_on = goes_on and value.lower() != "close"
            else:
                lines.append(f"{name}: {value}")
        if not status.startswith(("204", "304")):
            lines.append(f"Content-Length: {length}")
        if not goes_on:
            lines.append("Connection: close")
        elif self._request.version == "1.0":
            lines.append("Connection: keep-alive")
        lines.append("\r\n")
        head = "\r\n".join(lines).encode("latin-1")
        if only_head:
            self._write(head)
        elif len(body) <= _JOINED:
            # Each system call costs, and wakes the client.
            self._write(head + body)
        else:
            self._write(head)
            self._write(body)
        return goes_on

    def _may_go_on(self) -> bool:
        """Whether another request may follow, as far as this connection knows."""
        request = self._request
        if self._broken or self._too_slow or self._shared.draining() or not request.keep_alive:
            return False
        if self.answered + 1 >= self._last_request or time.monotonic() >= self._ages_at:
            return False
        if request.complete:
            return True
        # What it has not been asked for, a client may keep to itself.
        return not self._expects_continue and 0 < (request.content_length or 0) <= _SKIPPED

    def _finish_request(self) -> bool:
        """Take away what is left of a request; whether there can be another."""
        if not self._request.complete:
            self._enter(State.BODY)
            try:
                while not self._request.complete:
                    self._more()
            except RequestError:
                return False
        self.answered += 1
        self._enter(State.WAITING)
        return True

    def _linger(self) -> None:
        """Close our side, and wait for the client to close its own."""
        self._enter(State.CLOSING)
        self._socket.shutdown(socket.SHUT_WR)
        while True:
            self._hub.wait(self._readable)
            if not self._socket.recv(_LARGE_PIECE):
                return

    def _ask_for_body(self) -> None:
        self._expects_continue = False
        try:
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        except OSError as error:
            raise self._ended_early(error) from None
        self._enter(State.BODY)

    def _ended_early(self, error: OSError | None = None) -> RequestError:
        self._broken = True
        reason = f"the request ended early{f': {error.strerror}' if error else ''}"
        return RequestError(HTTPStatus.BAD_REQUEST, reason, close=True)

    def _more(self) -> None:
        """Read on in a request that has begun. Raises RequestError if that leads to nothing."""
        # Of a body no more than is missing: behind it the next request begins.
        missing = (self._request.content_length or 0) - len(self._request.body)
        size = max(_PIECE, min(missing, _LARGE_PIECE))
        while self._parser.error is None and not self._too_slow:
            try:
                data = self._socket.recv(size)
            except BlockingIOError:
                self._hub.wait(self._readable)
                continue
            except OSError as error:
                raise self._ended_early(error) from None
            if not data:
                raise self._ended_early()
            self._parser.feed(data)
            return
        self._broken = True
        raise self._parser.error or RequestError(
            HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive in time", close=True
        )

    def _write(self, data: bytes) -> None:
        """Send all of it; OSError if the client does not take it."""
        try:
            # Nearly always all of it at once.
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return
        self._enter(State.SENDING)
        left = memoryview(data)[sent:]
        writable = self._hub.loop.io(self._socket.fileno(), _WRITE)
        try:
            while left:
                self._hub.wait(writable)
                with suppress(BlockingIOError):
                    left = left[self._socket.send(left) :]
        finally:
            writable.close()


class _BodyFile(io.RawIOBase):
    """A request's body as WSGI wants it. Read when it is first asked for; of at most `most` bytes."""

    def __init__(self, connection: ClientConnection, most: int) -> None:
        self._connection = connection
        self._most = most
        self._at = 0

    def readable(self) -> bool:
        """See RawIOBase."""
        return True

    def readinto(self, buffer: Any) -> int:
        """See RawIOBase."""
        part = self._connection.read_body(self._most)[self._at : self._at + len(buffer)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)


def _too_large(most: int) -> RequestError:
    reason = f"the body is larger than {most} bytes; send less at a time"
    return RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason, close=True)
