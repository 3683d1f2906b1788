"""The serving image built by Buildah, in a container that has no engine and is not privileged."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from engine import PROXIES, Engine

HERE = Path(__file__).parent
# Of a pod's: Buildah makes namespaces of its own. Its storage is a volume, as overlays do not lie on overlays.
OPTIONS = ("--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined", "--volume=/var/lib/containers")

pytestmark = [pytest.mark.docker, pytest.mark.nightly]


@pytest.fixture(scope="module")
def agent(engine: Engine, repository: Path) -> str:
    return engine.build(repository, str(HERE / "agent.Dockerfile"), "agent")


def test_buildah_builds_the_image_that_docker_builds(
    engine: Engine, agent: str, repository: Path, manifest: dict[str, Any], litert_image: str, tmp_path: Path
) -> None:
    engine.run("save", "--output", str(tmp_path / "base.tar"), engine.base_image)
    mounted = {repository: "/repository", HERE / "bundle_twice.py": "/bundle_twice.py", tmp_path: "/given"}
    options = [f"--volume={source}:{place}:ro" for source, place in mounted.items()]
    options += [f"--env={name}" for name in PROXIES if name in os.environ]
    environment = ("--env=PYTHONPATH=/repository", "--env=SERVING_RUNTIME=litert")
    run = ("run", "--rm", *OPTIONS, *options, *environment, agent)
    said = engine.output(*run, "python", "/bundle_twice.py", manifest["id"], "/given/base.tar")
    first, second = json.loads(said.splitlines()[-1])
    docker = json.loads(engine.output("inspect", "--format={{json .Config}}", litert_image))
    for name in ("User", "Entrypoint", "WorkingDir", "StopSignal", "Healthcheck"):
        assert first[name] == docker[name], name
    assert sorted(first["Env"]) == sorted(docker["Env"])
    labels = first["Labels"]
    assert set(docker["Labels"]) <= set(labels)
    assert labels["org.opencontainers.image.version"] == manifest["id"]
    # Measured when the image had loaded the model.
    assert int(labels["ml-service-template.memory-bytes"]) > 10e6
    # From the cache came all but the labels: these are of the second commit.
    revision = "org.opencontainers.image.revision"
    assert (labels[revision], second["Labels"][revision]) == ("0123abc", "4567def")
    assert {**labels, revision: ""} == {**second["Labels"], revision: ""}
    assert first["layers"] == second["layers"] > 5
    assert "ai-edge-litert" in {name.lower() for name in first["packages"]}
