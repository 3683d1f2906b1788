"""A repository to deliver from, with a store, a registry, and programs that stand in for docker and kubectl."""

import json
import os
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from mlplatform.delivery.images.registry import RETRIES
from mlplatform.store import manifest
from mlplatform.store.storage import LocalStorage
from mlplatform.tests.conftest import ROOT, Bucket
from mlplatform.tests.registry import Registry

# Variables that a command may find on this machine, which may be an agent of Jenkins.
OF_OTHERS = ("DELIVERY_", "STORAGE_", "DOCKER_", "AWS_", "JENKINS_", "BUILD_", "APPROVED_", "STARTED_", "NOTIFY_")
PARTS = ("docker", "mlplatform", "model", "requirements")
PROGRAMS = Path(__file__).parent / "programs"
SETTINGS = """[service]
name = "under-test"

[template]
version = "1.2.3"

[delivery]
aws_region = "us-east-1"
storage_url = "store"
container_registry = "{registry}"
batch_job_queue = "queue"
kubernetes_namespace = "models"
datadog_site = "datadoghq.com"
training_device = "cpu"
"""

VERSIONS = ("aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc")
DEFINITION = {
    "jobDefinitionName": "under-test-training",
    "type": "container",
    "containerProperties": {
        "image": "${IMAGE}",
        "command": [],
        "environment": [],
        "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "2048"}],
        "jobRoleArn": "arn:${PARTITION}:iam::${ACCOUNT}:role/under-test-training-job",
    },
}


@dataclass(frozen=True)
class Repository:
    """A copy of this repository, and what stands around it. environment: of every command that is run in it."""

    path: Path
    registry: Registry
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> LocalStorage:
        """The store that its service.toml names."""
        return LocalStorage(self.path / "store")

    @property
    def programs(self) -> Path:
        """Where the programs that stand in keep what they were asked to do."""
        return Path(self.environment["STAND_IN"])

    def asked(self, program: str) -> list[str]:
        """The commands that a program got, without its name."""
        log = self.programs / f"{program}.log"
        return log.read_text().splitlines() if log.exists() else []

    def publish(self, version: str, files: Mapping[str, bytes] | None = None, **properties: Any) -> None:
        """Publish a model."""
        source = self.path.parent / f"source-{version}"
        for name, content in (files or {"saved_model/saved_model.pb": version.encode()}).items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(content)
        sample = {"instance": {"x": [0.0]}, "label": "no"}
        given = {"metrics": {"accuracy": 0.9}, "samples": [sample], "labels": ["no", "yes"], **properties}
        manifest.publish(self.store, f"models/{version}", source, "model", version, given)


@pytest.fixture
def registry() -> Iterator[Registry]:
    """An empty registry."""
    with Registry().running() as found:
        yield found


@pytest.fixture
def repository(tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A repository whose settings name the registry and a store of its own; commands in this process run in it."""
    path, programs, kept = tmp_path / "repository", tmp_path / "programs", tmp_path / "stand-in"
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, path / part, ignore=shutil.ignore_patterns("__pycache__", "*.gz"))
    (path / "service.toml").write_text(SETTINGS.format(registry=f"{registry.host}/team"))
    programs.mkdir()
    kept.mkdir()
    for program in PROGRAMS.glob("*.py"):
        script = programs / program.stem
        start = f"import sys; sys.path.insert(0, {str(PROGRAMS)!r}); import {program.stem}; {program.stem}.main()"
        # Compiled once, and without the packages: a release asks kubectl a dozen times.
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -S -c {shlex.quote(start)} "$@"\n')
        script.chmod(0o755)
    environment = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "STAND_IN": str(kept),
        "HOME": str(tmp_path),
        "GIT_COMMIT": "0123456789abcdef0123456789abcdef01234567",
        "GIT_CEILING_DIRECTORIES": str(tmp_path),
    }
    for variable in [name for name in os.environ if name.startswith(OF_OTHERS)]:
        monkeypatch.delenv(variable)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    # A registry that does not answer is asked twice, not for nine seconds.
    monkeypatch.setattr("mlplatform.delivery.images.registry.RETRIES", RETRIES.new(total=1))
    monkeypatch.chdir(path)
    return Repository(path, registry, environment)


@dataclass(frozen=True)
class Said:
    """What a command came to: exit code, result, progress and errors."""

    code: int
    out: str
    err: str


class Delivery:
    """Runs delivery's commands in this process."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *arguments: str) -> Said:
        from mlplatform.cli import main

        self._capfd.readouterr()
        code = main(arguments)
        said = self._capfd.readouterr()
        return Said(code, said.out, said.err)


@pytest.fixture
def delivery(capfd: pytest.CaptureFixture[str]) -> Delivery:
    """`delivery("models", "--json")`, in this process."""
    return Delivery(capfd)


@pytest.fixture
def cluster(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A repository with its manifests, three published models, and an empty cluster."""
    # That of the development packages, or of this machine: not the one that stands in.
    places = f"{Path(sys.executable).parent}:{repository.environment['PATH'].partition(':')[2]}"
    kubectl = shutil.which("kubectl", path=places)
    assert kubectl, "requirements/dev.txt holds kubectl: its own kustomize renders the manifests"
    monkeypatch.setenv("REAL_KUBECTL", kubectl)
    monkeypatch.setenv("DELIVERY_POLL_SECONDS", "0.01")
    shutil.copytree(ROOT / "deploy", repository.path / "deploy", dirs_exist_ok=True)
    # The names that this repository was made with, in its manifests those of the settings under test.
    made_with = tomllib.loads((ROOT / "service.toml").read_text(encoding="utf-8"))
    names = {made_with["service"]["name"]: "under-test", made_with["delivery"]["kubernetes_namespace"]: "models"}
    for path in (repository.path / "deploy").rglob("*.*"):
        text = path.read_text()
        for old, new in names.items():
            # As a whole word: a namespace may be called "m".
            text = re.sub(rf"(?<![\w-]){re.escape(old)}(?!\w)", new, text)
        path.write_text(re.sub(r"<<\W+cookiecutter\.\w+ >>", "other", text))
    for version in VERSIONS:
        repository.publish(version)
    return repository


@pytest.fixture
def account(repository: Repository, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An account with a bucket and nothing else; its Batch takes jobs and says that they went well."""
    from moto.core.config import default_user_config

    monkeypatch.setitem(default_user_config, "batch", {"use_docker": False})
    monkeypatch.setenv("DELIVERY_STORAGE_URL", bucket.url)
    monkeypatch.setenv("DELIVERY_POLL_SECONDS", "0.01")
    (repository.path / "deploy" / "aws").mkdir(parents=True, exist_ok=True)
    (repository.path / "deploy" / "aws" / "job-definition.json").write_text(json.dumps(DEFINITION))
    # Batch's queues live as long as the server, which all tests share.
    monkeypatch.setenv("DELIVERY_BATCH_JOB_QUEUE", f"queue-{bucket.name}")
    yield bucket


@pytest.fixture
def queue(account: Bucket) -> str:
    """A job queue in the account."""
    iam, batch = (boto3.client(name, endpoint_url=os.environ["AWS_ENDPOINT_URL"]) for name in ("iam", "batch"))
    role = iam.create_role(RoleName=account.name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    environment = batch.create_compute_environment(
        computeEnvironmentName=account.name, type="UNMANAGED", state="ENABLED", serviceRole=role
    )["computeEnvironmentArn"]
    name = os.environ["DELIVERY_BATCH_JOB_QUEUE"]
    order = [{"order": 1, "computeEnvironment": environment}]
    batch.create_job_queue(jobQueueName=name, state="ENABLED", priority=1, computeEnvironmentOrder=order)
    return name
