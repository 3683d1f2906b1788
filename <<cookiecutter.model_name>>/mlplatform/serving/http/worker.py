"""gunicorn's gevent worker with what it lacks: time limits on connections, and a stop that loses no request.

Built on the pywsgi variant: the plain gevent worker reads from a fast client again before it lets others have a turn
(hello world with 64 connections: p99 405 ms against 21).
"""

import errno
import logging
import math
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import gevent
import orjson
from gevent import monkey
from gevent import socket as gevent_socket
from gevent.pool import Pool
from gunicorn.http.wsgi import base_environ
from gunicorn.workers.ggevent import VERSION, GeventPyWSGIWorker, PyWSGIHandler, PyWSGIServer

from mlplatform.serving.http.headers import Headers

LOG = logging.getLogger("gunicorn.error")
BOOT_ERROR = 3
"""Exit code that makes gunicorn give up instead of starting the worker anew."""

# Copying a larger body costs more than the second system call.
_JOINED = 1 << 16
_TICK = 0.1
_LINGER_SECONDS = 2.0
_SETTLE_SECONDS = 1.0
# gevent's own looks, gives way, and then tells what it saw.
_select = monkey.get_original("select", "select")


class Handler(PyWSGIHandler):  # type: ignore[misc]
    """One connection. `deadline`: when the worker cuts it, on the monotonic clock; `idle`: it waits for a request."""

    ignored_socket_errors = (errno.EPIPE, errno.ECONNRESET, errno.EBADF)
    deadline = math.inf
    idle_since = math.inf
    sending = False
    too_slow = False
    refused_until = 0.0
    _held: bytearray | None = None

    def handle(self) -> None:
        """Serve the connection until one side closes it."""
        self.server.connections.add(self)
        try:
            super().handle()
        finally:
            self.server.connections.discard(self)

    def read_requestline(self) -> str:
        """Wait for the next request, at most the keep-alive time; then the client has to send it in time."""
        self.idle_since = time.monotonic()
        self.deadline = self.idle_since + self.server.settings.keepalive_seconds
        self.sending = False
        line: str = super().read_requestline()
        self.idle_since = math.inf
        self.deadline = time.monotonic() + self.server.settings.read_seconds
        return line

    def MessageClass(self, file: Any, *_: object) -> Headers:  # noqa: N802
        """The headers of a request; pywsgi's name for what parses them."""
        return Headers(file)

    def _headers(self) -> Iterator[tuple[str, str]]:
        variables: Iterator[tuple[str, str]] = self.headers.variables()
        return variables

    def get_environ(self) -> dict[str, Any]:
        """The WSGI environment, with this connection in it."""
        environ: dict[str, Any] = super().get_environ()
        environ["serving.connection"] = self
        return environ

    def body_read(self) -> None:
        """The request has arrived; how long its answer may take is the request's own deadline."""
        self.deadline = math.inf

    def gone(self) -> bool:
        """Whether the client has hung up. One system call."""
        try:
            # Straight to the system: gevent's recv would wait.
            return not self.socket._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def cut(self) -> None:
        """End what this connection waits for: a request that does not come, a body, a client that does not read."""
        waiting_for_body = self.idle_since == math.inf and not self.sending
        self.too_slow = waiting_for_body
        # Why it was cut may not be taken either; the next cut is for good.
        self._answer_from_now()
        with suppress(OSError):
            # Closing the reading side alone lets the application say why.
            self.socket.shutdown(socket.SHUT_RD if waiting_for_body else socket.SHUT_RDWR)

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., Any]:
        """Close after this answer when draining, so that the client's next request goes elsewhere."""
        if self.server.draining():
            headers = [*headers, ("Connection", "close")]
        write: Callable[..., Any] = super().start_response(status, headers, exc_info)
        return write

    def _write_with_headers(self, data: bytes) -> None:
        """Head and body leave in one system call; pywsgi makes two, and each takes 10 us and wakes the client."""
        self._answer_from_now()
        if len(data) > _JOINED:
            super()._write_with_headers(data)
            return
        self._held = bytearray()
        super()._write_with_headers(data)
        answer, self._held = self._held, None
        self._sendall(answer)

    def _sendall(self, data: bytes | bytearray) -> None:
        if self._held is not None:
            self._held += data
            return
        try:
            # Nearly always all of it at once; gevent's sendall first asks the system for the size of its buffer.
            sent = self.socket.send(data)
        except OSError:
            # pywsgi's own meets the same error, and keeps account of it.
            sent = 0
        self.response_length += sent
        if sent < len(data):
            super()._sendall(data[sent:])

    def _answer_from_now(self) -> None:
        """The client has to take what is sent in time."""
        self.sending = True
        self.deadline = time.monotonic() + self.server.settings.write_seconds

    def process_result(self) -> None:
        """Send the answer, then drop what was not read of the request: closing at once would reset the answer."""
        super().process_result()
        self.deadline = time.monotonic() + _LINGER_SECONDS

    def log_request(self) -> None:
        """Access log, where one is wanted: making its fields takes longer than parsing a small request."""
        if self.server.log.access_log_enabled:
            super().log_request()

    def _handle_client_error(self, ex: Exception) -> tuple[str, bytes]:
        """Answer what is no HTTP, in the same form as every other error; pywsgi would print a traceback for some."""
        status, reason = ("408 Request Timeout", "the request did not arrive in time")
        if not self.too_slow:
            status, reason = "400 Bad Request", f"not a valid HTTP request: {str(ex) or type(ex).__name__}"
        LOG.debug("%s: %s", self.client_address, reason)
        body = orjson.dumps({"error": reason})
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return status[:3], head.encode() + b"Connection: close\r\n\r\n" + body


class Server(PyWSGIServer):  # type: ignore[misc]
    """A listening socket and its open connections."""

    settings: Any
    draining: Callable[[], bool]
    connections: set[Handler]


class Worker(GeventPyWSGIWorker):  # type: ignore[misc]
    """Serves until SIGTERM; drains for a while; finishes what is in flight; ends."""

    server_class = Server
    wsgi_handler = Handler
    drain_until = math.inf
    standing_back = False
    alive: bool
    sockets: list[Any]

    def patch(self) -> None:
        """Make blocking calls give way to other greenlets; but leave child processes alone, which are not ours.

        gevent's subprocess works on the main thread only, and TensorFlow's import, on another, asks `uname`.
        """
        monkey.patch_all(os=False, signal=False, subprocess=False)
        self.sockets = [
            gevent_socket.socket(each.FAMILY, socket.SOCK_STREAM, fileno=each.sock.detach()) for each in self.sockets
        ]

    def handle_exit(self, sig: int, frame: object) -> None:
        """SIGTERM: not ready from now on, and draining. A second one ends the draining."""
        self.drain_until = time.monotonic() + (self.app.settings.drain_seconds if self.alive else 0)
        self.alive = False

    def run(self) -> None:
        """Serve. Exits with BOOT_ERROR if the model turns out to be unusable."""
        servers = [self._serve(listener) for listener in self.sockets]
        while time.monotonic() < self.drain_until:
            self._accept_or_stand_back(servers)
            self._tick(servers)
            if self.app.service.fatal:
                LOG.error("error: %s", self.app.service.fatal)
                sys.exit(BOOT_ERROR)
        self.app.service.take_no_more()
        for server in servers:
            self._accept_backlog(server)
            server.close()
        end = time.monotonic() + self.app.settings.finish_seconds
        while any(server.connections for server in servers) and time.monotonic() < end:
            # First let those have their turn whose requests have come.
            self._tick(servers)
            for server in servers:
                _close_idle(server)
        left = sum(len(server.connections) for server in servers)
        if left:
            LOG.warning("%d requests were not finished in %g s", left, self.app.settings.finish_seconds)

    def _serve(self, listener: Any) -> Server:
        listener.setblocking(1)
        environ = base_environ(self.cfg)
        environ.update({"wsgi.multithread": True, "SERVER_SOFTWARE": VERSION})
        server = Server(
            listener,
            application=self.wsgi,
            spawn=Pool(self.worker_connections),
            log=self.log,
            handler_class=Handler,
            environ=environ,
        )
        server.settings = self.app.settings
        server.draining = lambda: not self.alive
        server.connections = set()
        server.start()
        return server

    def _tick(self, servers: list[Server]) -> None:
        self.notify()
        now = time.monotonic()
        for server in servers:
            for connection in [each for each in server.connections if each.deadline < now]:
                connection.cut()
        gevent.sleep(_TICK)

    def _accept_or_stand_back(self, servers: list[Server]) -> None:
        """While the model is loading here and another worker has it, connections are for that one."""
        if self.app.service.stands_back() == self.standing_back:
            return
        self.standing_back = not self.standing_back
        for server in servers:
            if self.standing_back:
                server.stop_accepting()
            else:
                server.start_accepting()

    def _accept_backlog(self, server: Server) -> None:
        """Take the connections that wait in the kernel: closing the listener would reset them."""
        end = time.monotonic() + _SETTLE_SECONDS
        while time.monotonic() < end and _select([server.socket.fileno()], [], [], 0)[0]:
            gevent.sleep(0.001)


def _close_idle(server: Server) -> None:
    """Close connections that have asked for nothing for a moment; one just opened may have its request under way."""
    settled = time.monotonic() - _SETTLE_SECONDS
    for connection in [each for each in server.connections if each.idle_since < settled]:
        connection.cut()
