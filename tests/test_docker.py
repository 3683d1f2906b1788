"""The images: built from a rendered repository, trained as a job of AWS Batch, served, and looked into."""

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aws import Aws, account, job_definition
from conftest import Render
from engine import Engine, open_engine
from rendered import get, post, published_model

pytestmark = pytest.mark.docker

NAME = "leaf-reader"
BUCKET = "leaf-bucket"
QUEUE = "leaf-queue"
REGION = "eu-west-1"
BASE_IMAGE = "python:3.13-slim-trixie"
# As a Kubernetes cluster with the restricted profile would start it.
LOCKED_UP = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")
# Some 40 seconds: long enough to be stopped and killed in the middle.
JOB = ["--epochs", "40", "--checkpoint-seconds", "2"]
# Measured: 1.56 and 1.39 GB, of which 0.16 GB are the base image.
LARGEST_GIGABYTES = {"training": 1.8, "serving": 1.6}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine; that there is none is an error and no reason to skip."""
    with open_engine(BASE_IMAGE) as found:
        yield found


@pytest.fixture(scope="module")
def repository(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered repository to work in."""
    answers = {"model_name": NAME, "artifact_bucket": BUCKET, "batch_job_queue": QUEUE, "aws_region": REGION}
    repository = tmp_path_factory.mktemp("docker") / NAME
    shutil.copytree(render({**answers, "training_device": "cpu"}), repository)
    return repository


@pytest.fixture(scope="module")
def training_image(engine: Engine, repository: Path) -> str:
    return engine.build(repository, "docker/training.Dockerfile", "training", REVISION="0123abc", VERSION="1")


@pytest.fixture(scope="module")
def aws(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    log = tmp_path_factory.mktemp("aws") / "moto.log"
    with account(REGION, log, {"DOCKER_HOST": engine.host}) as found:
        yield found


@dataclass(frozen=True)
class Job:
    """A job of Batch that ended."""

    status: str
    exit_code: int
    log: str


class Batch:
    """The queue of the rendered stack, with the rendered job definition for the training image."""

    def __init__(self, aws: Aws, engine: Engine, repository: Path, image: str) -> None:
        self.aws = aws
        self.engine = engine
        self.image = image
        self.client = aws.client("batch")
        aws.deploy(repository)
        definition = job_definition(repository, image)
        # moto mounts directories that are named, but has no volumes of the engine's own making.
        properties = {**definition["containerProperties"], "volumes": [], "mountPoints": []}
        registered = self.client.register_job_definition(**{**definition, "containerProperties": properties})
        self.definition = registered["jobDefinitionArn"]

    def run(self, *command: str, meanwhile: Callable[[str], None] | None = None) -> Job:
        """Submit a job and wait for its end; `meanwhile` gets the id of its container when that is there."""
        environment = [{"name": name, "value": value} for name, value in self.aws.environment_of_jobs.items()]
        job = self.client.submit_job(
            jobName=NAME,
            jobQueue=QUEUE,
            jobDefinition=self.definition,
            containerOverrides={"command": list(command), "environment": environment},
        )["jobId"]
        if meanwhile:
            meanwhile(self._container())
        deadline = time.monotonic() + 300
        while True:
            found = self.client.describe_jobs(jobs=[job])["jobs"][0]
            if found["status"] in {"SUCCEEDED", "FAILED"}:
                return Job(found["status"], self._exit_code(found), self._log(found))
            assert time.monotonic() < deadline, found
            time.sleep(0.5)

    def _exit_code(self, job: dict[str, Any]) -> int:
        # Of moto's answers only this one holds it.
        listed = self.client.list_jobs(jobQueue=QUEUE, jobStatus=job["status"])["jobSummaryList"]
        return int(next(found["container"]["exitCode"] for found in listed if found["jobId"] == job["jobId"]))

    def _container(self) -> str:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = self.engine.containers(self.image)
            if found:
                return found[0]
            time.sleep(0.2)
        raise AssertionError("Batch started no container within 60 seconds")

    def _log(self, job: dict[str, Any]) -> str:
        logs = self.aws.client("logs")
        stream = {"logGroupName": "/aws/batch/job", "logStreamName": job["container"]["logStreamName"]}
        return "\n".join(event["message"] for event in logs.get_log_events(**stream, startFromHead=True)["events"])


@pytest.fixture(scope="module")
def batch(aws: Aws, engine: Engine, repository: Path, training_image: str) -> Batch:
    return Batch(aws, engine, repository, training_image)


@pytest.fixture(scope="module")
def jobs(batch: Batch) -> list[Job]:
    """The same job submitted three times: stopped in the middle, then killed in the middle, then left alone."""
    engine = batch.engine

    def in_epoch(number: int, *command: str) -> Callable[[str], None]:
        def act(container: str) -> None:
            deadline = time.monotonic() + 120
            while f"train: epoch {number}/" not in engine.output("logs", container):
                assert time.monotonic() < deadline, engine.output("logs", container)
                time.sleep(0.1)
            engine.run(*command, container)

        return act

    return [
        batch.run(*JOB, meanwhile=in_epoch(5, "stop", "--time=30")),
        batch.run(*JOB, meanwhile=in_epoch(15, "kill")),
        batch.run(*JOB),
    ]


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def serving_image(engine: Engine, repository: Path, manifest: dict[str, Any]) -> str:
    given = {"MODEL": f"store/models/{manifest['id']}", "REVISION": "0123abc", "VERSION": manifest["id"]}
    return engine.build(repository, "docker/serving.Dockerfile", "serving", **given)


@contextmanager
def running(engine: Engine, image: str, *options: str) -> Iterator[tuple[str, str]]:
    """Id and base URL of a locked-up container of the server, ready; removed in any case."""
    container = engine.output("run", "--detach", *LOCKED_UP, "--publish=127.0.0.1::8080", *options, image)
    try:
        port = engine.output("port", container, "8080").rpartition(":")[2]
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while not _ready(url):
            assert time.monotonic() < deadline, engine.output("logs", container)
            time.sleep(0.2)
        yield container, url
    finally:
        engine.run("rm", "--force", "--volumes", container)


def _ready(url: str) -> bool:
    try:
        return get(f"{url}/v2/health/ready")[0] == 200
    except (OSError, ValueError):
        return False


@pytest.fixture(scope="module")
def service(engine: Engine, serving_image: str) -> Iterator[tuple[str, str]]:
    with running(engine, serving_image) as found:
        yield found


class TestJob:
    """Training as a job of AWS Batch, through its API, on S3."""

    def test_that_is_stopped_saves_and_ends_with_75(self, jobs: list[Job]) -> None:
        assert (jobs[0].status, jobs[0].exit_code) == ("FAILED", 75)
        assert "stopped; the same command goes on where this one was" in jobs[0].log

    def test_that_was_stopped_goes_on_where_it_was(self, jobs: list[Job]) -> None:
        assert int(found_in(r"going on from a checkpoint at epoch (\d+)/40", jobs[1].log)) >= 5

    def test_that_was_killed_goes_on_from_its_last_checkpoint(self, jobs: list[Job]) -> None:
        assert (jobs[1].status, jobs[1].exit_code) == ("FAILED", 137)
        assert int(found_in(r"going on from a checkpoint at epoch (\d+)/40", jobs[2].log)) >= 10

    def test_ends_well_with_its_log(self, jobs: list[Job]) -> None:
        assert (jobs[2].status, jobs[2].exit_code) == ("SUCCEEDED", 0), jobs[2].log
        assert "train: epoch 40/40" in jobs[2].log
        assert "model version" in jobs[2].log

    def test_leaves_model_metrics_and_report_in_s3(self, manifest: dict[str, Any]) -> None:
        assert manifest["properties"]["metrics"]["accuracy"] >= 0.95
        assert manifest["properties"]["git_commit"] == "0123abc"
        assert {"saved_model/saved_model.pb", "metrics.json", "report.html"} <= set(manifest["files"])

    def test_with_a_wrong_parameter_ends_with_2_and_says_which(self, batch: Batch) -> None:
        job = batch.run("--epochs", "0")
        assert (job.status, job.exit_code) == ("FAILED", 2)
        assert "training.epochs = '0'" in job.log

    def test_needs_no_more_rights_than_a_locked_up_container_has(self, engine: Engine, training_image: str) -> None:
        result = engine.run("run", "--rm", *LOCKED_UP, "--env=STORAGE_URL=/tmp/store", training_image, "gather")
        assert re.fullmatch("[0-9a-f]{12}", result.stdout.strip().splitlines()[-1]), result.stdout


def found_in(pattern: str, text: str) -> str:
    """What the first group of a pattern matches in a text that has to hold it."""
    match = re.search(pattern, text)
    assert match, text
    return match[1]


class TestServer:
    """The serving image with that model, read-only, without capabilities, as a user without a name in the host."""

    def test_answers_v1(self, service: tuple[str, str], manifest: dict[str, Any]) -> None:
        samples = manifest["properties"]["samples"]
        instances = [sample["instance"] for sample in samples]
        status, body = post(f"{service[1]}/v1/models/{NAME}:predict", {"instances": instances})
        assert status == 200, body
        labels = manifest["properties"]["labels"]
        predicted = [labels[scores.index(max(scores))] for scores in body["predictions"]]
        assert sum(p == s["label"] for p, s in zip(predicted, samples, strict=True)) >= 0.8 * len(samples)

    def test_answers_v2(self, service: tuple[str, str], manifest: dict[str, Any]) -> None:
        image = manifest["properties"]["samples"][0]["instance"]["image"]
        tensor = {"name": "image", "shape": [1, 8, 8], "datatype": "FP32", "data": [image]}
        status, body = post(f"{service[1]}/v2/models/{NAME}/infer", {"inputs": [tensor]})
        assert status == 200, body
        assert sum(body["outputs"][0]["data"]) == pytest.approx(1, abs=1e-4)

    def test_refuses_a_bad_input_by_its_name(self, service: tuple[str, str]) -> None:
        status, body = post(f"{service[1]}/v1/models/{NAME}:predict", {"instances": [{"image": [[1]]}]})
        assert status == 400
        assert "image" in body["error"]

    def test_is_healthy_by_the_images_own_check(self, engine: Engine, service: tuple[str, str]) -> None:
        result = engine.run("exec", service[0], "python", "-m", "serving.health", check=False)
        assert result.returncode == 0, result.stdout

    def test_predicts_as_the_saved_model_itself_does(
        self, engine: Engine, repository: Path, training_image: str, service: tuple[str, str], manifest: dict[str, Any]
    ) -> None:
        instances = [sample["instance"] for sample in manifest["properties"]["samples"]]
        served = post(f"{service[1]}/v1/models/{NAME}:predict", {"instances": instances})[1]["predictions"]
        program = (
            "import json, sys, tensorflow as tf; images = json.loads(sys.argv[1]); "
            "call = tf.saved_model.load('/saved_model').signatures['serving_default']; "
            "found = call(image=tf.constant(images, tf.float32))['probabilities'].numpy().tolist(); "
            "print('\\nFOUND', json.dumps(found))"
        )
        model = repository / "store" / "models" / manifest["id"] / manifest["content"] / "saved_model"
        images = json.dumps([instance["image"] for instance in instances])
        options = (f"--volume={model}:/saved_model:ro", "--entrypoint=python", training_image)
        # Among what TensorFlow says on standard error.
        expected = json.loads(found_in(r"FOUND (.*)", engine.output("run", "--rm", *options, "-c", program, images)))
        for found, wanted in zip(served, expected, strict=True):
            # float32, summed up in another order by another number of threads.
            assert found == pytest.approx(wanted, abs=1e-5)

    def test_loses_no_request_when_it_is_stopped(
        self, engine: Engine, serving_image: str, manifest: dict[str, Any]
    ) -> None:
        body = {"instances": [sample["instance"] for sample in manifest["properties"]["samples"]]}
        answers: list[int] = []
        told = threading.Event()

        def ask(url: str) -> None:
            # On for a second after the signal, as load balancers are.
            end = None
            while end is None or time.monotonic() < end:
                answers.append(post(url, body)[0])
                if told.is_set() and end is None:
                    end = time.monotonic() + 1

        with running(engine, serving_image, "--env=SERVING_DRAIN_SECONDS=4") as (container, url):
            clients = [threading.Thread(target=ask, args=[f"{url}/v1/models/{NAME}:predict"]) for _ in range(4)]
            for client in clients:
                client.start()
            time.sleep(1)
            before = len(answers)
            engine.run("kill", "--signal=TERM", container)
            told.set()
            for client in clients:
                client.join()
            assert engine.output("wait", container) == "0"
        assert len(answers) > before > 0
        assert set(answers) == {200}

    def test_does_not_become_ready_with_a_damaged_model(
        self, engine: Engine, repository: Path, manifest: dict[str, Any], tmp_path: Path, serving_image: str
    ) -> None:
        damaged = damage(repository, manifest, tmp_path / "model")
        result = engine.run("run", "--rm", f"--volume={damaged}:/model:ro", "--entrypoint=python", serving_image,
                            "-m", "artifacts", "/model", check=False)  # fmt: skip
        assert result.returncode == 1
        assert "saved_model.pb" in result.stdout


def damage(repository: Path, manifest: dict[str, Any], target: Path) -> Path:
    """A copy of the published model with one byte of the network changed."""
    shutil.copytree(repository / "store" / "models" / manifest["id"], target)
    network = target / manifest["content"] / "saved_model" / "saved_model.pb"
    content = bytearray(network.read_bytes())
    content[len(content) // 2] ^= 1
    network.write_bytes(content)
    return target


class TestBuild:
    """What building does, and does not do again."""

    def test_refuses_a_damaged_model(
        self, engine: Engine, repository: Path, manifest: dict[str, Any], serving_image: str
    ) -> None:
        damaged = damage(repository, manifest, repository / "store" / "models" / "damaged")
        try:
            with pytest.raises(RuntimeError, match=r"saved_model\.pb: its SHA-256 is not the one in the manifest"):
                engine.build(repository, "docker/serving.Dockerfile", "damaged", MODEL="store/models/damaged")
        finally:
            shutil.rmtree(damaged)

    def test_of_changed_code_installs_nothing(self, engine: Engine, repository: Path, training_image: str) -> None:
        changed = repository / "training" / "errors.py"
        before = changed.read_text(encoding="utf-8")
        changed.write_text(f"{before}\n# Changed.\n", encoding="utf-8")
        try:
            again = engine.build(repository, "docker/training.Dockerfile", "changed", REVISION="456def", VERSION="2")
        finally:
            changed.write_text(before, encoding="utf-8")
        assert changed_layers(engine, training_image, again) <= 3

    def test_of_a_new_model_makes_one_layer(
        self, engine: Engine, repository: Path, manifest: dict[str, Any], serving_image: str
    ) -> None:
        models = repository / "store" / "models"
        shutil.copytree(models / manifest["id"], models / "another")
        manifest_file = models / "another" / "manifest.json"
        manifest_file.write_text(json.dumps({**manifest, "id": "0" * 12}), encoding="utf-8")
        try:
            again = engine.build(repository, "docker/serving.Dockerfile", "another", MODEL="store/models/another")
        finally:
            shutil.rmtree(models / "another")
        assert changed_layers(engine, serving_image, again) == 1


def changed_layers(engine: Engine, one: str, other: str) -> int:
    """In how many layers two images differ that have equally many."""
    layers = [json.loads(engine.output("inspect", "--format={{json .RootFS.Layers}}", image)) for image in (one, other)]
    return sum(first != second for first, second in zip(*layers, strict=True))


@pytest.mark.parametrize("purpose", ["training", "serving"])
class TestContents:
    """What is in an image, and what is not."""

    @pytest.fixture
    def image(self, purpose: str, request: pytest.FixtureRequest) -> str:
        return str(request.getfixturevalue(f"{purpose}_image"))

    def test_run_as_a_user_that_is_not_root(self, purpose: str, image: str, engine: Engine) -> None:
        assert engine.output("inspect", "--format={{.Config.User}}", image) == "10001:10001"
        assert inside(engine, image, "id -u; id -g").split() == ["10001", "10001"]

    def test_say_what_they_were_made_from(self, purpose: str, image: str, engine: Engine) -> None:
        config = json.loads(engine.output("inspect", "--format={{json .Config}}", image))
        assert config["Labels"]["org.opencontainers.image.revision"] == "0123abc"
        assert config["Labels"]["org.opencontainers.image.version"]
        assert config["StopSignal"] == "SIGTERM"
        assert bool(config.get("Healthcheck")) == (purpose == "serving")

    def test_hold_no_compiler_installer_or_cache(self, purpose: str, image: str, engine: Engine) -> None:
        assert inside(engine, image, "command -v gcc cc c++ make uv; true") == ""
        assert inside(engine, image, "ls -A /root /tmp 2>/dev/null | grep -v :; ls /build 2>/dev/null; true") == ""

    def test_hold_the_rooms_that_they_run_and_no_others(self, purpose: str, image: str, engine: Engine) -> None:
        rooms = {
            "training": "artifacts model requirements service.toml training",
            "serving": "artifacts service.toml serving",
        }
        assert inside(engine, image, "ls -A /app").split() == rooms[purpose].split()
        # Each side's own packages: Luigi and boto3 train, Flask serves.
        packages = {"training": ("luigi", "flask"), "serving": ("flask", "luigi")}[purpose]
        listed = inside(engine, image, "ls /opt/venv/lib/python3*/site-packages").split()
        assert packages[0] in listed
        assert packages[1] not in listed

    def test_hold_no_secret(self, purpose: str, image: str, engine: Engine) -> None:
        history = engine.output("history", "--no-trunc", "--format={{.CreatedBy}}", image)
        settings = engine.output("inspect", "--format={{json .Config.Env}}", image)
        assert not re.search(r"(?i)secret|password|token|aws_access|://\w+:\w+@", history + settings)

    def test_can_be_written_nowhere_by_their_user_but_in_tmp(self, purpose: str, image: str, engine: Engine) -> None:
        found = inside(engine, image, "find / -xdev -writable -not -type l 2>/dev/null; true")
        assert set(found.split()) <= {"/tmp", "/var/tmp", "/run/lock"}

    def test_list_their_packages_in_a_bill_of_materials(self, purpose: str, image: str, engine: Engine) -> None:
        bill = json.loads(inside(engine, image, "cat /opt/venv/share/sbom.cdx.json"))
        assert bill["bomFormat"] == "CycloneDX"
        listed = {(part["name"].lower(), part["version"]) for part in bill["components"]}
        installed = inside(
            engine,
            image,
            "python -c 'from importlib.metadata import distributions as d\n"
            "for found in d(): print(found.name.lower(), found.version)'",
        )
        assert listed == {tuple(line.split()) for line in installed.splitlines()}

    def test_are_no_larger_than_measured(self, purpose: str, image: str, engine: Engine) -> None:
        size = int(engine.output("inspect", "--format={{.Size}}", image)) / 1e9
        assert size < LARGEST_GIGABYTES[purpose], f"{size:.2f} GB"


def inside(engine: Engine, image: str, command: str) -> str:
    """What a shell command says in a container of an image."""
    return engine.output("run", "--rm", "--entrypoint=sh", image, "-c", command)


@pytest.mark.parametrize("purpose", ["training", "serving"])
def test_dockerfiles_have_no_finding_of_hadolint(purpose: str, repository: Path) -> None:
    command = [str(Path(sys.executable).with_name("hadolint")), f"docker/{purpose}.Dockerfile"]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_base_image_of_these_tests_is_the_dockerfiles_own(repository: Path) -> None:
    for path in (repository / "docker").glob("*.Dockerfile"):
        found = dict(re.findall(r"^ARG (\w+)=(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE))
        assert found["BASE_IMAGE"].replace("${PYTHON_VERSION}", found["PYTHON_VERSION"]) == BASE_IMAGE
