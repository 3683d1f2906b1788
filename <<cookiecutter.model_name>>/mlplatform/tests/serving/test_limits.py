"""What a client may not do, and what it is told. The server is asked for a prediction after each of these tests."""

import gzip
import json
import socket
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from mlplatform.tests.serving.running import PREDICT, Running, connections_to, serving
from mlplatform.tests.telemetry.sink import until

pytestmark = pytest.mark.serial

IMAGE = [[1.0] * 8] * 8
BODY = json.dumps({"instances": [IMAGE]}).encode()
JSON = {"Content-Type": "application/json"}
# Of the smallest size, so that a few answers fill them; accepted sockets have the listening one's.
SMALL_SEND_BUFFERS = """
import socket

listen = socket.socket.listen


def listen_with_small_buffers(self, *arguments):
    self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    listen(self, *arguments)


socket.socket.listen = listen_with_small_buffers
"""


@pytest.fixture(autouse=True)
def unharmed(server: Running) -> Iterator[None]:
    """Whatever happened, the server still answers and has logged no traceback."""
    yield
    assert server.predict({"instances": [IMAGE]}).status == 200
    assert "Traceback" not in server.log


def test_a_body_over_the_limit_is_refused_though_it_is_still_being_sent(server: Running) -> None:
    reply = server.ask("POST", PREDICT, b" " * (16 << 20), JSON)
    assert (reply.status, reply.error) == (413, "the body is larger than 4194304 bytes; send less at a time")
    assert reply.headers["Connection"] == "close"


def test_a_chunked_body_has_the_same_limit(server: Running) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    request = _head("Transfer-Encoding: chunked") + 80 * chunk + b"0\r\n\r\n"
    assert _exchange(server, request).startswith(b"HTTP/1.1 413 ")


def test_a_chunked_body_is_read(server: Running) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:20], BODY[20:]))
    request = _head("Transfer-Encoding: chunked", "Connection: close") + chunks + b"0\r\n\r\n"
    assert _exchange(server, request).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_body_is_read(server: Running, encoding: str) -> None:
    body = gzip.compress(BODY) if encoding == "gzip" else zlib.compress(BODY)
    plain = server.predict({"instances": [IMAGE]})
    assert server.ask("POST", PREDICT, body, JSON | {"Content-Encoding": encoding}).body == plain.body


def test_a_compressed_body_may_come_in_several_members(server: Running) -> None:
    """As tools that compress in parallel write it."""
    body = gzip.compress(BODY[:20]) + gzip.compress(b"") + gzip.compress(BODY[20:])
    plain = server.predict({"instances": [IMAGE]})
    assert server.ask("POST", PREDICT, body, JSON | {"Content-Encoding": "gzip"}).body == plain.body


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (gzip.compress(b" " * (64 << 20)), 413, "the body is larger than 4194304 bytes once decompressed"),
        (gzip.compress(BODY)[:-10], 400, "the gzip body is cut short"),
        (gzip.compress(BODY) + b"more", 400, "the gzip body is followed by 4 bytes of something else"),
        (BODY, 400, "the body is not gzip: "),
    ],
    ids=["bomb", "cut short", "followed", "plain"],
)
def test_broken_compression(server: Running, body: bytes, status: int, reason: str) -> None:
    reply = server.ask("POST", PREDICT, body, JSON | {"Content-Encoding": "gzip"})
    assert reply.status == status
    assert reply.error.startswith(reason)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"Content-Type": "text/xml; charset=utf-8"}, "Content-Type is 'text/xml'; expected application/json"),
        (JSON | {"Content-Encoding": "br"}, "Content-Encoding is 'br'; expected gzip, deflate or identity"),
    ],
)
def test_what_it_does_not_understand(server: Running, headers: dict[str, str], reason: str) -> None:
    reply = server.ask("POST", PREDICT, BODY, headers)
    assert (reply.status, reply.error) == (415, reason)


@pytest.mark.parametrize("depth", [100, 100_000])
def test_deep_json(server: Running, depth: int) -> None:
    for body in (b"[" * depth + b"]" * depth, b'{"instances":' + b"[" * depth + b"]" * depth + b"}"):
        assert server.ask("POST", PREDICT, body, JSON).status == 400


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b'"', b"\xff\xfe", b'{"instances": [1e999]}', b'{"instances": [' + b"9" * 5000 + b"]}", b"[[[{}]]]"],
)
def test_odd_bodies(server: Running, body: bytes) -> None:
    reply = server.ask("POST", PREDICT, body, JSON)
    assert reply.status == 400
    assert reply.error


def test_a_deadline_that_is_no_number(server: Running) -> None:
    reply = server.ask("POST", PREDICT, BODY, JSON | {"X-Request-Timeout-Ms": "soon"})
    assert (reply.status, reply.error) == (
        400,
        "X-Request-Timeout-Ms is 'soon'; expected whole milliseconds, at most 99999999",
    )


def test_a_client_that_hangs_up_in_the_middle(server: Running) -> None:
    for part in (b"PO", _head("Content-Length: 1000"), _head("Content-Length: 1000") + b"{"):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(part)


def test_slow_clients_are_cut_off(light: Path) -> None:
    limits = {"read_seconds": 0.5, "write_seconds": 0.5, "keepalive_seconds": 1}
    with serving(light, **limits) as server:
        server.wait_for(200)
        assert _exchange(server, b"GET / HTTP/1.1\r\nX-Slow: ").startswith(b"HTTP/1.1 408 ")
        answer = _exchange(server, _head("Content-Length: 1000") + b"{")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'{"error":"the request did not arrive in time"}' in answer
        # One that asks for nothing.
        assert _exchange(server, b"") == b""
        # One that takes no answer: what is under way fits into the buffers, so it asks for as many as it can.
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
            _wait_until_closed(server, [client])
        assert server.predict({"instances": [IMAGE]}).status == 200
        assert "Traceback" not in server.log


def test_a_client_that_does_not_take_why_it_was_refused_is_cut_off(
    light: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SMALL_SEND_BUFFERS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with serving(light, read_seconds=0.5, write_seconds=0.5) as server, ExitStack() as stack:
        server.wait_for(200)
        clients = []
        # For one of them the buffer is full just when it is told that it was not understood.
        for asked in range(60):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", server.port))
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * asked + b"no request\r\n\r\n")
            clients.append(client)
        _wait_until_closed(server, clients)


def _wait_until_closed(server: Running, clients: list[socket.socket]) -> None:
    """Wait until the server has closed its ends. Clients that read nothing may learn of it much later."""
    ends = {client.getsockname()[1] for client in clients}
    until(lambda: ends.isdisjoint(connections_to(server.port)), 20)


def _head(*headers: str) -> bytes:
    return "\r\n".join([f"POST {PREDICT} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def _exchange(server: Running, request: bytes) -> bytes:
    """Send bytes, and read until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(request)
        answer = b""
        while part := client.recv(65536):
            answer += part
        return answer
