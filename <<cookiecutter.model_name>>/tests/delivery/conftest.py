"""A repository to deliver from, with a store, a registry, and programs that stand in for docker and kubectl."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from artifacts import manifest
from artifacts.storage import LocalStorage
from delivery.registry import RETRIES
from tests.conftest import ROOT
from tests.registry import Registry

PARTS = ("artifacts", "delivery", "docker", "model", "requirements", "serving", "telemetry", "training")
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
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{program}" "$@"\n')
        script.chmod(0o755)
    environment = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "STAND_IN": str(kept),
        "HOME": str(tmp_path),
        "GIT_COMMIT": "0123456789abcdef0123456789abcdef01234567",
        "GIT_CEILING_DIRECTORIES": str(tmp_path),
    }
    for variable in [name for name in os.environ if name.startswith(("DELIVERY_", "STORAGE_", "DOCKER_", "AWS_"))]:
        monkeypatch.delenv(variable)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    # A registry that does not answer is asked twice, not for nine seconds.
    monkeypatch.setattr("delivery.registry.RETRIES", RETRIES.new(total=1))
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
        from delivery.cli import main

        self._capfd.readouterr()
        code = main(arguments)
        said = self._capfd.readouterr()
        return Said(code, said.out, said.err)


@pytest.fixture
def delivery(capfd: pytest.CaptureFixture[str]) -> Delivery:
    """`delivery("models", "--json")`, in this process."""
    return Delivery(capfd)
