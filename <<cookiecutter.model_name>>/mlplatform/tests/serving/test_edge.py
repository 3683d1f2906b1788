"""The server as its clients meet it, for long: broken requests by the ten thousand, restarts under load, behind nginx.

nginx has to be installed (Debian: `apt-get install nginx-light`):
`nox -s platform_tests -- -m nightly mlplatform/tests/serving/test_edge.py`.
"""

import http.client
import json
import os
import random
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from mlplatform.tests.serving.mutated import mutated, mutated_bytes
from mlplatform.tests.serving.running import NAME, PREDICT, Client, Running, free_port, serving, stopped_at_end
from mlplatform.tests.serving.test_raw_requests import BODY, PROBE, TABLES, exchange, statuses
from mlplatform.tests.serving.test_rolling import Balancer

pytestmark = pytest.mark.nightly

MUTATED = 50_000
"""For each runtime."""
RESTARTS = 40
REFUSALS_OF_5XX = {501, 503, 504, 505}
CONFIGURATION = """
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log info;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    scgi_temp_path {directory}/scgi;
    uwsgi_temp_path {directory}/uwsgi;
    # What is odd is for the server to judge.
    ignore_invalid_headers off;
    underscores_in_headers on;
    client_max_body_size 64m;
    # One connection for all: an answer too many would be taken for the next request's.
    upstream server {{ server 127.0.0.1:{upstream}; keepalive 1; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://server;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            # The tests close their side once all is sent.
            proxy_ignore_client_abort on;
            proxy_request_buffering {buffering};
        }}
    }}
}}
"""


@contextmanager
def nginx(upstream: int, directory: Path, buffering: str = "on") -> Iterator[int]:
    """nginx in front of a port; the port that it listens on. buffering: of requests, on or off."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "nginx is missing; on Debian: apt-get install nginx-light"
    directory.mkdir()
    port = free_port()
    configuration = directory / "nginx.conf"
    configuration.write_text(
        CONFIGURATION.format(directory=directory, port=port, upstream=upstream, buffering=buffering)
    )
    process = subprocess.Popen([program, "-c", str(configuration), "-p", str(directory)], start_new_session=True)
    try:
        Running(process, f"http://127.0.0.1:{port}", directory / "error.log").wait_for(200, "/v2/health/live")
        yield port
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait(20)


@pytest.mark.parametrize("buffering", ["on", "off"])
def test_behind_nginx_nobody_gets_the_answer_to_anothers_request(
    server: Running, tmp_path: Path, buffering: str
) -> None:
    with nginx(server.port, tmp_path / "nginx", buffering) as port:
        front = Running(server.process, f"http://127.0.0.1:{port}", server.log_file)
        for table, shapes in TABLES.items():
            for name, (raw, _, _) in shapes.items():
                answers = statuses(exchange(front, raw + PROBE))
                # One at most for each of the two requests: some end where nginx waits for more, and gets nothing.
                assert len(answers) <= 2, f"{table}: {name}"
                for number in range(2):
                    asked = f"{table}-{name}-{number}".encode().hex()[:128]
                    reply = front.ask("POST", PREDICT, BODY, {"X-Request-ID": asked})
                    assert (reply.status, reply.headers["X-Request-ID"]) == (200, asked), f"{table}: {name}"
        assert b"upstream sent" not in (tmp_path / "nginx" / "error.log").read_bytes()


@pytest.mark.parametrize("runtime", ["litert", "tensorflow"])
def test_nothing_that_is_sent_makes_it_fail(toml: Path, runtime: str) -> None:
    random_ = random.Random(1)
    found: Counter[int] = Counter()
    with serving(toml, runtime=runtime, max_body_bytes=4 << 20, queue_ms=5000) as server:
        server.wait_for(200)
        workers = server.workers()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        for number in range(MUTATED):
            if number % 6 == 5:
                raw = mutated_bytes(random_, NAME)
                answered = statuses(exchange(server, raw))
                assert answered, raw
                found.update(answered)
                continue
            path, body, headers = mutated(random_, NAME)
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            response.read()
            found[response.status] += 1
            assert response.status < 500 or response.status in REFUSALS_OF_5XX, (path, headers, body)
        connection.close()
        assert {status for status in found if status >= 500} <= REFUSALS_OF_5XX
        assert (server.workers(), "Traceback" in server.log) == (workers, False)
        print(f"{runtime}: {MUTATED} broken requests, {dict(found)}")


@pytest.mark.parametrize("through", ["directly", "nginx"])
def test_restarts_under_load_lose_no_request(light: Path, tmp_path: Path, through: str) -> None:
    body = json.dumps({"instances": [[[1.0] * 8] * 8]}).encode()
    balancer = Balancer()
    with ExitStack() as stack:
        stack.enter_context(balancer.running())

        def start() -> Running:
            server = stack.enter_context(serving(light, drain_seconds=3))
            balancer.servers.append(server)
            balancer.wait_for(server)
            return server

        running = start()
        port = balancer.port
        if through == "nginx":
            port = stack.enter_context(nginx(balancer.port, tmp_path / "nginx"))
        clients = [Client(port, body, pause) for pause in (0.0, 0.3) for _ in range(4)]
        with stopped_at_end(clients, 30):
            for _ in range(RESTARTS):
                old, running = running, start()
                os.kill(old.process.pid, signal.SIGTERM)
                assert old.process.wait(30) == 0
                balancer.servers.remove(old)
        print(f"{RESTARTS} restarts, {through}: {sum(len(client.statuses) for client in clients)} requests")
        assert [reason for client in clients for reason in client.lost] == []
        assert {status for client in clients for status in client.statuses} == {200}
