"""How many connections there may be, for how long, and who has to go first."""

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mlplatform.tests.serving.running import PREDICT, Running, connections_to, serving
from mlplatform.tests.telemetry.sink import until

pytestmark = pytest.mark.serial

BODY = json.dumps({"instances": [[[1.0] * 8] * 8]}).encode()
MOST = 8
PART_OF_A_BODY = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{{".encode()


@pytest.fixture(scope="module")
def small_server(light: Path) -> Iterator[Running]:
    """A server with room for a few connections, which it does not end by itself."""
    limits = {"max_connections": MOST, "read_seconds": 300, "keepalive_seconds": 300, "keepalive_max_seconds": 86_400}
    with serving(light, **limits) as server:
        server.wait_for(200)
        yield server


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def connect(server: Running, clients: ExitStack, sending: bytes = b"") -> socket.socket:
    client = clients.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
    client.sendall(sending)
    return client


@pytest.mark.parametrize("sending", [b"", b"GET /v2/he", PART_OF_A_BODY], ids=["nothing", "a head", "a body"])
def test_who_holds_connections_without_asking_keeps_nobody_out(
    small_server: Running, clients: ExitStack, sending: bytes
) -> None:
    held = [connect(small_server, clients, sending) for _ in range(3 * MOST)]
    assert small_server.get("/v2/health/ready").status == 200
    assert small_server.ask("POST", PREDICT, BODY).status == 200
    # The oldest had to go; the newest may still ask.
    assert held[0].recv(1) == b""
    held[-1].settimeout(0)
    with pytest.raises(BlockingIOError):
        held[-1].recv(1)


def test_who_has_asked_before_stays_longer_than_who_never_did(small_server: Running, clients: ExitStack) -> None:
    asking = http.client.HTTPConnection("127.0.0.1", small_server.port, timeout=60)
    clients.callback(asking.close)
    asking.request("GET", "/v2/health/live")
    asking.getresponse().read()
    for _ in range(3 * MOST):
        connect(small_server, clients)
    assert small_server.get("/v2/health/ready").status == 200
    opened_by = asking.sock.getsockname()
    asking.request("POST", PREDICT, BODY)
    assert asking.getresponse().status == 200
    assert asking.sock.getsockname() == opened_by


def test_one_address_gets_no_more_than_its_share(light: Path, clients: ExitStack) -> None:
    with serving(light, max_connections_per_address=2, read_seconds=300) as server:
        server.wait_for(200)
        # Those that asked whether it is ready; 0 is the one that listens.
        until(lambda: connections_to(server.port) <= {0})
        first, second, third = (connect(server, clients) for _ in range(3))
        assert first.recv(1) == b""
        other = clients.enter_context(socket.socket())
        other.bind(("127.0.0.2", 0))
        other.connect(("127.0.0.1", server.port))
        other.settimeout(60)
        for client in (second, third, other):
            client.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_who_connects_has_to_begin_in_time(light: Path, clients: ExitStack) -> None:
    with serving(light, read_seconds=0.5, keepalive_seconds=300) as server:
        server.wait_for(200)
        assert connect(server, clients).recv(1) == b""


def test_a_connection_ends_after_so_many_requests_and_says_so(light: Path) -> None:
    with serving(light, keepalive_max_requests=20) as server:
        server.wait_for(200)
        answered = {_requests_until_the_end(server) for _ in range(20)}
        # Not all after the same number: they would all come back at the same time.
        assert min(answered) >= 10
        assert max(answered) <= 20
        assert len(answered) > 1


def test_a_connection_ends_when_it_is_old_and_says_so(light: Path) -> None:
    with serving(light, keepalive_max_seconds=1) as server:
        server.wait_for(200)
        assert _requests_until_the_end(server) > 1


def _requests_until_the_end(server: Running) -> int:
    """How many requests one connection answers, until an answer says that it is the last."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    answered = 0
    ended = False
    while not ended:
        connection.request("GET", "/v2/health/live")
        response = connection.getresponse()
        response.read()
        assert response.status == 200
        answered += 1
        ended = response.getheader("Connection") == "close"
    connection.close()
    return answered
