"""What the tests in containers share, made once: an engine, the services beside, the images, a model trained in one.

The fixtures go when the last of these tests is done, so that the engine does not run on beside all others.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from aws import Aws
from conftest import Render
from engine import Engine, EngineError, open_engine
from pytest_docker.plugin import Services
from rendered import nox, published_model, put_model, set_serving_runtime

from containers.batch import Batch, Job
from containers.datadog import Datadog
from containers.server import LOCKED_UP, running
from containers.waiting import wait_for

NAME = "leaf-reader"
TUMOURS = "tumour-classifier"
BUCKET = "leaf-bucket"
QUEUE = "leaf-queue"
REGION = "eu-west-1"
BASE_IMAGE = "python:3.13-slim-trixie"
SERVICES = Path(__file__).parents[1] / "services"
# Some ten seconds: long enough to be stopped and killed in the middle.
JOB = ["--epochs", "40", "--checkpoint-seconds", "0.5"]


@pytest.fixture(scope="package")
def engine() -> Iterator[Engine]:
    """An engine. Without one everything ends, with one message: to skip would look like success."""
    with ExitStack() as used:
        try:
            found = used.enter_context(open_engine(BASE_IMAGE))
        except EngineError as error:
            pytest.exit(str(error), returncode=1)
        yield found


@pytest.fixture(scope="package")
def repository(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered repository to work in."""
    answers = {"model_name": NAME, "artifact_bucket": BUCKET, "batch_job_queue": QUEUE, "aws_region": REGION}
    repository = tmp_path_factory.mktemp("docker") / NAME
    shutil.copytree(render({**answers, "training_device": "cpu"}), repository)
    return repository


@pytest.fixture(scope="package")
def services_image(engine: Engine) -> str:
    """The image of the services; built here, as Compose needs buildx for it."""
    return engine.build(SERVICES, "Dockerfile", "services")


@pytest.fixture(scope="package")
def docker_compose_command(engine: Engine, services_image: str) -> str:
    """Compose for this engine, with the image of the services."""
    settings = {"DOCKER_HOST": engine.host, "ENGINE_SOCKET": engine.socket, "SERVICES_IMAGE": services_image}
    assignments = " ".join(f"{name}={shlex.quote(value)}" for name, value in settings.items())
    return f"{assignments} {shlex.quote(str(Path(sys.executable).with_name('docker-compose')))}"


@pytest.fixture(scope="package")
def docker_compose_file() -> str:
    return str(SERVICES / "compose.yaml")


@pytest.fixture(scope="package")
def docker_compose_project_name(engine: Engine) -> str:
    return engine.project


@pytest.fixture(scope="package")
def docker_setup() -> list[str]:
    return ["up --detach"]


@pytest.fixture(scope="package")
def docker_cleanup() -> list[str]:
    # What is killed at once has nothing to save.
    return ["down --volumes --timeout 0"]


@pytest.fixture(scope="package")
def aws(docker_services: Services) -> Aws:
    """An account that containers on the network of the services reach as http://aws:5000."""
    found = Aws(docker_services.port_for("aws", 5000), REGION)
    docker_services.wait_until_responsive(lambda: found.answers, timeout=60, pause=0.2)
    return found


@pytest.fixture(scope="package")
def datadog(engine: Engine, docker_services: Services) -> Datadog:
    """An agent that containers with its `options` report to."""
    traces, metrics = (docker_services.port_for("datadog", port) for port in (8126, 8127))
    found = Datadog(traces, metrics, f"{engine.project}_default")
    docker_services.wait_until_responsive(lambda: found.answers, timeout=60, pause=0.2)
    return found


@pytest.fixture(scope="package")
def training_image(engine: Engine, repository: Path) -> str:
    return engine.build(repository, "docker/training.Dockerfile", "training", REVISION="0123abc", VERSION="1")


@pytest.fixture(scope="package")
def batch(aws: Aws, engine: Engine, repository: Path, training_image: str) -> Batch:
    return Batch(aws, engine, repository, training_image, QUEUE)


@pytest.fixture(scope="package")
def jobs(batch: Batch, datadog: Datadog) -> list[Job]:
    """The same job submitted three times: stopped in the middle, then killed in the middle, then left alone.

    datadog: is told of their metrics.
    """
    engine, s3 = batch.engine, batch.aws.client("s3")

    def wait_for_epoch(number: int, container: str) -> None:
        def log() -> str:
            return engine.output("logs", container)

        wait_for(lambda: f"train: epoch {number}/" in log(), 120, log)

    def checkpoints() -> set[str]:
        listed = s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{NAME}/runs/")
        return {each["Key"] for each in listed["Contents"] if "/checkpoints/" in each["Key"]}

    def wait_for_another_checkpoint() -> None:
        before = checkpoints()
        wait_for(lambda: not checkpoints() <= before)

    def stop(container: str) -> None:
        wait_for_epoch(5, container)
        engine.run("stop", "--time=30", container)

    def kill(container: str) -> None:
        wait_for_epoch(10, container)
        # The first may be of an earlier epoch, and just have been written.
        wait_for_another_checkpoint()
        wait_for_another_checkpoint()
        engine.run("kill", container)

    return [
        batch.run(*JOB, meanwhile=stop),
        batch.run(*JOB, meanwhile=kill),
        batch.run(*JOB),
    ]


@pytest.fixture(scope="package")
def manifest(jobs: list[Job], aws: Aws, repository: Path) -> dict[str, Any]:
    """The manifest of the model that the job published in S3, which is copied into the repository's own store."""
    assert jobs[-1].status == "SUCCEEDED", jobs[-1].log
    s3 = aws.client("s3")
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{NAME}/models/"):
        for found in page["Contents"]:
            path = repository / "store" / found["Key"].removeprefix(f"{NAME}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(BUCKET, found["Key"], str(path))
    return published_model(repository)


@pytest.fixture(scope="package")
def serving_image(engine: Engine, repository: Path, manifest: dict[str, Any]) -> str:
    given = {"MODEL": f"store/models/{manifest['id']}", "REVISION": "0123abc", "VERSION": manifest["id"]}
    return engine.build(repository, "docker/serving.Dockerfile", "serving", **given)


@pytest.fixture(scope="package")
def litert_image(engine: Engine, repository: Path, manifest: dict[str, Any]) -> str:
    """The serving image without TensorFlow."""
    given = {"MODEL": f"store/models/{manifest['id']}", "REVISION": "0123abc", "VERSION": manifest["id"]}
    return engine.build(repository, "docker/serving.Dockerfile", "litert", RUNTIME="litert", **given)


@pytest.fixture(scope="package")
def tumours(engine: Engine, render: Render, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a model of scikit-learn in its store; an image with the team's packages has trained it."""
    repository = tmp_path_factory.mktemp("docker") / TUMOURS
    shutil.copytree(render({"model_name": TUMOURS, "training_device": "cpu"}), repository)
    put_model(repository, "tumours")
    set_serving_runtime(repository, "onnx")
    locked = nox(repository, "-s", "lock")
    assert locked.returncode == 0, locked.stdout
    image = engine.build(repository, "docker/training.Dockerfile", "tumours-training")
    store = repository / "store"
    store.mkdir()
    options = (f"--user={os.getuid()}:{os.getgid()}", f"--volume={store}:/store", "--env=STORAGE_URL=/store")
    engine.run("run", "--rm", *LOCKED_UP, *options, image)
    return repository


@pytest.fixture(scope="package")
def onnx_image(engine: Engine, tumours: Path) -> str:
    """The serving image of the model of scikit-learn."""
    version = published_model(tumours)["id"]
    given = {"MODEL": f"store/models/{version}", "REVISION": "0123abc", "VERSION": version}
    return engine.build(tumours, "docker/serving.Dockerfile", "onnx", RUNTIME="onnx", **given)


@pytest.fixture(scope="package")
def service(engine: Engine, serving_image: str) -> Iterator[tuple[str, str]]:
    """Id and base URL of a server that all tests ask."""
    with running(engine, serving_image) as found:
        yield found
