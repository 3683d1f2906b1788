"""A proxy between a client and an HTTP server that makes programmed faults, over real sockets on the loopback."""

import http.client
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

FOREVER = 1_000_000


@dataclass(frozen=True)
class Answer:
    """The server is not asked; the answer is an error as S3 words it."""

    status: int
    code: str


@dataclass(frozen=True)
class Reset:
    """The connection is reset, before the server is asked or after it has done what was asked."""

    handled: bool


@dataclass(frozen=True)
class Truncated:
    """The answer's body ends half-way."""


@dataclass(frozen=True)
class Damaged:
    """One byte of the answer's body is another one."""


@dataclass(frozen=True)
class Slow:
    """The answer comes late."""

    seconds: float


Fault = Answer | Reset | Truncated | Damaged | Slow


@dataclass
class _Rule:
    fault: Fault
    method: str
    target: re.Pattern[str]
    first: int
    last: int
    seen: int = 0

    def matches(self, method: str, target: str) -> bool:
        if method != self.method or not self.target.search(target):
            return False
        self.seen += 1
        return self.first <= self.seen <= self.last


@dataclass
class FaultyProxy:
    """Passes requests on to `upstream` (http://host:port), but for the faults programmed with `fault`.

    requests: what came in, as "METHOD /path?query", in order.
    """

    upstream: str
    requests: list[str] = field(default_factory=list)
    _rules: list[_Rule] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    # S3 checks a condition and stores in one step, moto in two.
    _conditional: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, fault: Fault, method: str, target: str, nth: int = 1, times: int = 1) -> None:
        """Make a fault of the nth request of this method whose /path?query the pattern is found in, and of those after
        it, `times` in all."""
        self._rules.append(_Rule(fault, method, re.compile(target), nth, nth + times - 1))

    def clear(self) -> None:
        """Make no more faults."""
        self._rules.clear()

    def not_made(self) -> list[str]:
        """The faults that no request came for."""
        return [f"{r.fault} of {r.method} {r.target.pattern}, no. {r.first}" for r in self._rules if r.seen < r.first]

    @contextmanager
    def running(self) -> Iterator[str]:
        """Run the proxy; its URL."""
        server = _Server(("127.0.0.1", 0), _Handler)
        server.proxy = self
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def arrived(self, method: str, target: str) -> Fault | None:
        """Note a request; the fault to make of it."""
        with self._lock:
            self.requests.append(f"{method} {target}")
            due = [rule.fault for rule in self._rules if rule.matches(method, target)]
            return due[0] if due else None

    def forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> "tuple[_Head, bytes]":
        """Ask the server; its status and headers, and the body."""
        if {"if-match", "if-none-match"} & {name.lower() for name in headers}:
            with self._conditional:
                return self._ask(method, path, headers, body)
        return self._ask(method, path, headers, body)

    def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes) -> "tuple[_Head, bytes]":
        parts = urlsplit(self.upstream)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            return _Head(response.status, response.getheaders()), response.read()
        finally:
            connection.close()


@dataclass(frozen=True)
class _Head:
    status: int
    headers: list[tuple[str, str]]


class _Server(ThreadingHTTPServer):
    proxy: FaultyProxy
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            # The client has gone: it waits for no slow answer.
            self.close_connection = True

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.proxy.arrived(self.command, unquote(self.path))
        if isinstance(fault, Answer):
            self._refuse(fault)
            return
        if fault == Reset(handled=False):
            self._reset()
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("connection", "expect")}
        head, content = self.server.proxy.forward(self.command, self.path, headers, body)
        if fault == Reset(handled=True):
            self._reset()
            return
        if isinstance(fault, Slow):
            time.sleep(fault.seconds)
        self._send(head, content, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on  # noqa: N815

    def _send(self, head: _Head, content: bytes, fault: Fault | None = None) -> None:
        self.send_response_only(head.status)
        for name, value in head.headers:
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        lengths = [value for name, value in head.headers if name.lower() == "content-length"]
        self.send_header("Content-Length", lengths[0] if self.command == "HEAD" and lengths else str(len(content)))
        self.end_headers()
        if isinstance(fault, Truncated):
            content = content[: len(content) // 2]
            self.close_connection = True
        if isinstance(fault, Damaged):
            content = bytes([content[0] ^ 1]) + content[1:]
        if self.command != "HEAD":
            self.wfile.write(content)

    def _refuse(self, answer: Answer) -> None:
        error = f"<Error><Code>{answer.code}</Code><Message>as the test wants it</Message></Error>"
        content = b"" if self.command == "HEAD" else f'<?xml version="1.0"?>{error}'.encode()
        self._send(_Head(answer.status, [("Content-Type", "application/xml")]), content)

    def _reset(self) -> None:
        self.close_connection = True
        # Closed with nothing to linger for, a socket sends RST instead of FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

    def log_message(self, *arguments: Any) -> None:
        pass
