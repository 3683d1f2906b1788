"""Starting: what the server says when there is nothing to serve, or something that must not be."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from mlplatform.tests.serving.running import NAME, PREDICT, Client, Running, service_toml, serving
from mlplatform.tests.telemetry.sink import until

pytestmark = pytest.mark.serial

ONE = {"instances": [[[0] * 8] * 8]}


def test_without_a_model_it_is_alive_not_ready_and_says_what_to_do(tmp_path: Path, toml: Path) -> None:
    with serving(service_toml(tmp_path, runtime="litert")) as server:
        server.wait_for(200, "/v2/health/live")
        reply = server.wait_for(503, saying="no model")
        assert reply.error == f"no model in {tmp_path}/store/models yet; train one with: python -m mlplatform train"
        assert server.get("/").body["ready"] is False
        predicted = server.predict({"instances": [1]})
        assert (predicted.status, predicted.headers["Retry-After"]) == (503, "1")
        assert server.get(f"/v1/models/{NAME}").body["ready"] is False

        # Once one is published it is served, without a restart. A rename, for a manifest is always written last.
        shutil.copytree(toml.parent / "store", tmp_path / "copy")
        (tmp_path / "copy").rename(tmp_path / "store")
        server.wait_for(200)
        assert server.predict({"instances": [[[0] * 8] * 8]}).status == 200


def test_a_damaged_model_is_refused_by_the_name_of_the_file(tmp_path: Path, toml: Path) -> None:
    shutil.copytree(toml.parent / "store", tmp_path / "store")
    (graph,) = (tmp_path / "store").rglob("saved_model.pb")
    content = bytearray(graph.read_bytes())
    content[100] ^= 1
    graph.write_bytes(content)
    log = _fails(service_toml(tmp_path), code=3)
    assert f"error: {graph}: its SHA-256 is not the one in the manifest" in log


def test_a_damaged_neighbour_does_not_keep_the_latest_model_from_being_served(tmp_path: Path, light: Path) -> None:
    shutil.copytree(light.parent / "store", tmp_path / "store")
    (tmp_path / "store/models/newer").mkdir()
    (tmp_path / "store/models/newer/manifest.json").write_text("{")
    with serving(service_toml(tmp_path, runtime="litert")) as server:
        server.wait_for(200)
        assert server.get("/").body["model"]["version"] == "aaaaaaaaaaaa"
        assert f"A model that cannot be `latest`: {tmp_path}/store/models/newer/manifest.json: not a" in server.log


def test_a_model_under_the_name_of_another_is_not_served(tmp_path: Path, light: Path) -> None:
    shutil.copytree(light.parent / "store", tmp_path / "store")
    (tmp_path / "store/models/aaaaaaaaaaaa").rename(tmp_path / "store/models/cccccccccccc")
    log = _fails(service_toml(tmp_path, runtime="litert"), "--model", "cccccccccccc", code=3)
    assert "is the manifest of model 'aaaaaaaaaaaa', which belongs elsewhere" in log


@pytest.mark.parametrize("missing", ["somewhere/else", "cccccccccccc"])
def test_a_model_that_is_not_there_is_waited_for(tmp_path: Path, missing: str) -> None:
    with serving(service_toml(tmp_path), "--model", missing) as server:
        server.wait_for(503, saying=missing)


def test_a_wrong_setting_is_refused_in_one_line(tmp_path: Path) -> None:
    log = _fails(service_toml(tmp_path), code=2, queue_ms="soon")
    assert log.startswith("error: serving.queue_ms = 'soon' (environment variable SERVING_QUEUE_MS): ")


@pytest.mark.parametrize(
    "url", ["ghost:8080", "https://g", "http://g:99999", "http://[::1", "http://g/path", "http://", "http://g\x01"]
)
def test_the_address_of_a_ghost_that_is_none_is_refused_in_one_line(tmp_path: Path, url: str) -> None:
    log = _fails(service_toml(tmp_path), code=2, ghost_url=url)
    line = f"error: serving.ghost_url = {url!r} (environment variable SERVING_GHOST_URL): expected http://HOST"
    assert log.startswith(line), log


def test_a_taken_port_is_reported_in_one_line(toml: Path, server: Running) -> None:
    log = _fails(toml, "--port", str(server.port), code=1)
    assert log.startswith(f"error: cannot listen on 127.0.0.1:{server.port}: Address already in use")


def test_the_master_never_loads_tensorflow(server: Running) -> None:
    # TensorFlow deadlocks in a process forked after its import.
    def loaded(pid: int) -> bool:
        return "tensorflow" in Path(f"/proc/{pid}/maps").read_text()

    assert not loaded(server.process.pid)
    assert [loaded(worker) for worker in server.workers()] == [True]


def test_a_worker_that_is_still_loading_leaves_connections_to_one_that_is_ready(toml: Path) -> None:
    with serving(toml, workers=2) as server:
        until(lambda: server.log.count("Ready: ") == 2, 300)
        os.kill(server.workers()[0], signal.SIGKILL)
        statuses = []
        while server.log.count("Ready: ") < 3:
            assert server.process.poll() is None, server.log
            # Each on a connection of its own.
            statuses += [server.get("/v2/health/ready").status, server.predict(ONE).status]
        assert set(statuses) == {200}, statuses


def test_sighup_is_ignored_and_loses_no_request(light: Path) -> None:
    with serving(light) as server:
        server.wait_for(200)
        workers = server.workers()
        client = Client(server.port, json.dumps(ONE).encode())
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "SIGHUP is ignored" in server.log)
        client.stop.set()
        client.join()
        assert (set(client.statuses), client.lost, server.workers()) == ({200}, [], workers)


def test_what_is_served(server: Running) -> None:
    assert server.get("/v1/models").body == {"models": [NAME]}
    status = server.get(f"/v1/models/{NAME}").body
    assert (status["name"], status["ready"]) == (NAME, True)
    assert status["model_version_status"][0]["version"] == "aaaaaaaaaaaa"
    assert status["model_version_status"][0]["state"] == "AVAILABLE"
    metadata = server.get(f"/v1/models/{NAME}/metadata").body
    assert metadata["model_spec"] == {"name": NAME, "signature_name": "", "version": "aaaaaaaaaaaa"}
    image = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]["image"]
    assert image["dtype"] == "DT_FLOAT"
    assert [dimension["size"] for dimension in image["tensor_shape"]["dim"]] == ["-1", "8", "8"]
    index = server.get("/").body
    assert (index["status"], index["name"], index["model"]["labels"][3]) == ("alive", NAME, "3")
    assert index["template"] == "1.2.3"
    assert server.get("/v2/health/live").body == {"live": True}
    assert server.get("/v2/health/ready").body == {"live": True, "ready": True, "name": NAME}


def test_unknown_paths_and_methods_are_answered_in_json(server: Running) -> None:
    reply = server.post("/v1/models/other:predict", {"instances": [1]})
    assert (reply.status, reply.error) == (404, "there is no /v1/models/other:predict here; GET / says what is")
    reply = server.get(PREDICT)
    assert (reply.status, "POST" in reply.headers["Allow"]) == (405, True)
    assert reply.error.startswith("The method is not allowed")


def _fails(toml: Path, *arguments: str, code: int, **settings: object) -> str:
    with serving(toml, *arguments, **settings) as server:
        assert server.process.wait(60) == code
        assert "Traceback" not in server.log
        return server.log
