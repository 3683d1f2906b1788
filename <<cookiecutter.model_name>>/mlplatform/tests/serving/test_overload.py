"""A model that is slow: what happens to those who wait, and that health does not."""

import http.client
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import pytest

from mlplatform.tests.serving.running import PREDICT, Running, service_toml, serving

pytestmark = pytest.mark.serial

SECOND = 3000
"""Work for one second on a fast machine, for three on a slow one."""


@pytest.fixture(scope="module")
def slow_toml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mlplatform.tests.serving.models import publish_slow

    directory = tmp_path_factory.mktemp("slow")
    publish_slow(directory)
    return service_toml(directory, runtime="litert", queue_ms=100, stuck_seconds=1)


@pytest.fixture(scope="module")
def slow_server(slow_toml: Path) -> Iterator[Running]:
    with serving(slow_toml) as running:
        running.wait_for(200)
        yield running


@pytest.fixture
def busy_server(slow_toml: Path) -> Iterator[Running]:
    """A server with no room: it computes for longer than a test takes, one row at a time, and as many wait as may."""
    settings = {"queue_ms": 10, "max_batch_rows": 1, "deadline_ms": 60_000}
    with ThreadPoolExecutor(20) as pool, serving(slow_toml, **settings) as server:
        server.wait_for(200)
        computing = pool.submit(server.predict, instances(1.0, 10 * SECOND))
        server.wait_for(503, "/v2/health/live", saying="a model call has been running")
        waiting = [pool.submit(server.predict, instances(1.0)) for _ in range(19)]
        assert any(answer.result().status == 503 for answer in as_completed(waiting, timeout=20))
        yield server
        assert not computing.done()


def instances(x: float, work: int = 20) -> dict[str, object]:
    return {"instances": [{"x": x, "work": work}]}


def test_a_slow_model_gets_a_thread_of_its_own(slow_server: Running) -> None:
    assert "on a thread of its own" in slow_server.log


def test_everyone_gets_the_right_answer_or_is_told_when_to_come_back(slow_server: Running) -> None:
    def ask(x: int) -> tuple[int, object]:
        reply = slow_server.predict(instances(float(x)))
        if reply.status == 503:
            assert reply.error.startswith("overloaded: the wait would be ")
            assert int(reply.headers["Retry-After"]) >= 1
        return reply.status, reply.body.get("predictions")

    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(ask, range(400)))
    assert {status for status, _ in answers} <= {200, 503}
    accepted = [(x, value) for x, (status, value) in enumerate(answers) if status == 200]
    assert accepted
    assert all(value == [float(x)] for x, value in accepted)


def test_what_cannot_be_computed_in_time_is_refused_before_its_body_is_sent(busy_server: Running) -> None:
    with socket.create_connection(("127.0.0.1", busy_server.port), timeout=20) as connection:
        connection.sendall(f"POST {PREDICT} HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 503 ")


def test_who_comes_again_before_the_time_it_was_told_waits_for_the_next_refusal(busy_server: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", busy_server.port, timeout=20)
    took = []
    for _ in range(3):
        start = time.monotonic()
        connection.request("POST", PREDICT, _json(instances(1.0)))
        response = connection.getresponse()
        response.read()
        took.append(time.monotonic() - start)
        assert (response.status, response.headers["Retry-After"] is None) == (503, False)
    connection.close()
    assert min(took[1:]) >= 0.2


def test_health_is_answered_while_the_model_computes(slow_toml: Path) -> None:
    with ThreadPoolExecutor(1) as pool, serving(slow_toml, stuck_seconds=60) as server:
        server.wait_for(200)
        asking = pool.submit(server.predict, instances(1.0, 5 * SECOND))
        time.sleep(0.1)
        answers = [server.get("/v2/health/live").status for _ in range(5)]
        assert (answers, asking.done()) == ([200] * 5, False)


def test_a_deadline_is_kept_though_the_model_is_not_ready(slow_server: Running) -> None:
    reply = slow_server.ask("POST", PREDICT, _json(instances(1.0, SECOND // 3)), {"X-Request-Timeout-Ms": "100"})
    assert (reply.status, reply.error) == (504, "the deadline has passed before the model came to this request")
    slow_server.wait_for(200)


def test_a_model_that_is_stuck_makes_the_server_not_live(slow_server: Running) -> None:
    asking = threading.Thread(target=lambda: slow_server.predict(instances(1.0, 5 * SECOND)))
    asking.start()
    reply = slow_server.wait_for(503, "/v2/health/live")
    assert reply.error.startswith("a model call has been running for ")
    asking.join(60)


def test_a_second_sigterm_ends_the_draining_and_finishes_what_is_in_flight(slow_toml: Path) -> None:
    with serving(slow_toml, drain_seconds=60) as server, ThreadPoolExecutor(1) as pool:
        server.wait_for(200)
        asking = pool.submit(server.predict, instances(7.0, 500))
        time.sleep(0.2)
        os.kill(server.process.pid, signal.SIGTERM)
        server.wait_for(503)
        os.kill(server.process.pid, signal.SIGTERM)
        assert asking.result(30).body == {"predictions": [7.0]}
        assert server.process.wait(15) == 0


def test_what_is_not_finished_in_time_is_cut(slow_toml: Path) -> None:
    with serving(slow_toml, finish_seconds=1) as server, ThreadPoolExecutor(1) as pool:
        server.wait_for(200)
        asking = pool.submit(server.predict, instances(7.0, 20 * SECOND))
        time.sleep(0.2)
        os.kill(server.process.pid, signal.SIGTERM)
        assert isinstance(asking.exception(15), ConnectionError)
        assert server.process.wait(15) == 0
        assert "1 requests were not finished in 1 s" in server.log


def _json(content: object) -> bytes:
    return json.dumps(content).encode()
