"""Stopping and failing: every way has a defined outcome."""

import http.client
import json
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from mlplatform.store.manifest import Manifest
from mlplatform.tests.serving.running import NAME, PREDICT, Client, connections_to, service_toml, serving
from mlplatform.tests.telemetry.sink import until

pytestmark = pytest.mark.serial

BODY = json.dumps({"instances": [[[1.0] * 8] * 8]}).encode()


def test_sigterm_loses_no_request(light: Path) -> None:
    with serving(light, drain_seconds=60) as server:
        server.wait_for(200)
        clients = [Client(server.port, BODY) for _ in range(8)]
        until(lambda: all(client.statuses for client in clients))
        os.kill(server.process.pid, signal.SIGTERM)
        # Not ready at once, but it serves on: load balancers take a while to look away.
        server.wait_for(503)
        reply = server.get("/v2/health/ready")
        assert (reply.error, reply.headers["Connection"]) == ("the server is stopping", "close")
        assert server.get("/v2/health/live").status == 200
        assert server.ask("POST", PREDICT, BODY).status == 200
        asked = [len(client.statuses) for client in clients]
        until(lambda: all(len(client.statuses) > before for client, before in zip(clients, asked, strict=True)))
        for client in clients:
            client.stop.set()
            client.join(20)
        os.kill(server.process.pid, signal.SIGTERM)
        assert server.process.wait(20) == 0
        assert [client.lost for client in clients] == [[]] * 8
        assert {status for client in clients for status in client.statuses} == {200}
        assert "Traceback" not in server.log


def test_who_has_connected_when_it_stops_is_answered(light: Path) -> None:
    with serving(light) as server, ThreadPoolExecutor(8) as pool:
        server.wait_for(200)
        (worker,) = server.workers()
        # So that the worker sees all of them and the signal at once.
        os.kill(worker, signal.SIGSTOP)
        before = connections_to(server.port)
        asking = [pool.submit(server.ask, "POST", PREDICT, BODY) for _ in range(8)]
        until(lambda: len(connections_to(server.port) - before) == 8)
        os.kill(worker, signal.SIGTERM)
        os.kill(worker, signal.SIGCONT)
        assert [answer.result(20).status for answer in asking] == [200] * 8


def test_an_idle_connection_does_not_hold_up_the_stop(light: Path) -> None:
    with serving(light) as server:
        server.wait_for(200)
        idle = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        idle.request("GET", "/v2/health/live")
        idle.getresponse().read()
        os.kill(server.process.pid, signal.SIGTERM)
        assert server.process.wait(10) == 0
        idle.close()


def test_ctrl_c_stops_at_once(light: Path) -> None:
    with serving(light, drain_seconds=60) as server:
        server.wait_for(200)
        os.kill(server.process.pid, signal.SIGINT)
        assert server.process.wait(10) == 0
        assert "Traceback" not in server.log


def test_a_worker_that_dies_is_replaced(light: Path) -> None:
    with serving(light) as server:
        server.wait_for(200)
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)
        # Its successor takes over the listening socket: connections wait in the kernel meanwhile.
        server.wait_for(503)
        server.wait_for(200)
        assert server.workers() != [worker]


def test_requests_that_reach_the_successor_of_a_worker_wait_for_its_model(light: Path) -> None:
    with serving(light) as server:
        server.wait_for(200)
        clients = [Client(server.port, BODY) for _ in range(8)]
        until(lambda: all(client.statuses for client in clients))
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)
        # The pod is not ready at once, for whoever routes requests.
        server.wait_for(503)
        asked = [len(client.statuses) for client in clients]
        until(lambda: all(len(client.statuses) > before for client, before in zip(clients, asked, strict=True)))
        for client in clients:
            client.stop.set()
            client.join(20)
        # Lost is what the worker had in its hands, and nothing is refused.
        assert {status for client in clients for status in client.statuses} == {200}
        assert all(len(client.lost) <= 1 for client in clients)


def test_a_worker_that_is_replaced_serves_the_version_of_the_others(tmp_path: Path, light: Path) -> None:
    shutil.copytree(light.parent / "store", tmp_path / "store")
    models = tmp_path / "store/models"
    with serving(service_toml(tmp_path, runtime="litert")) as server:
        server.wait_for(200)
        shutil.copytree(models / "aaaaaaaaaaaa", tmp_path / "newer")
        manifest = tmp_path / "newer/manifest.json"
        published = Manifest.from_json(manifest.read_bytes(), "the copy")
        newer = replace(published, id="ffffffffffff", created_at="2999-01-01T00:00:00Z")
        manifest.write_bytes(newer.to_json())
        (tmp_path / "newer").rename(models / "ffffffffffff")

        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)
        server.wait_for(503)
        server.wait_for(200)
        assert server.get(f"/v1/models/{NAME}").body["model_version_status"][0]["version"] == "aaaaaaaaaaaa"
    with serving(service_toml(tmp_path, runtime="litert")) as server:
        server.wait_for(200)
        assert server.get(f"/v1/models/{NAME}").body["model_version_status"][0]["version"] == "ffffffffffff"


def test_a_model_that_hangs_while_loading_fails_liveness(tmp_path: Path, toml: Path) -> None:
    shutil.copytree(toml.parent / "store", tmp_path / "store")
    manifest = tmp_path / "store/models/aaaaaaaaaaaa/manifest.json"
    manifest.unlink()
    # Reading a pipe that nobody writes into never ends.
    os.mkfifo(manifest)
    with serving(service_toml(tmp_path), "--model", "aaaaaaaaaaaa", load_seconds=5) as server:
        server.wait_for(200, "/v2/health/live")
        server.wait_for(503, "/v2/health/live")
        assert server.get("/v2/health/live").error == "the model did not load within 5 s"
        assert server.get("/v2/health/ready").error == "the model is being loaded"
