"""`ghost stop`: what is removed is the ghost, and nothing else."""

import json
import os
from pathlib import Path

import pytest

from mlplatform.tests.conftest import Command
from mlplatform.tests.deploy.manifests import K8S, OVERLAYS, build

SETTINGS = """
[service]
name = "under-test"
[delivery]
aws_region = "eu-west-1"
storage_url = "store"
container_registry = "registry.example"
batch_job_queue = "queue"
kubernetes_namespace = "models"
datadog_site = "datadoghq.eu"
training_device = "cpu"
"""


@pytest.fixture
def kubectl(tmp_path: Path) -> dict[str, str]:
    """Environment with a kubectl that notes what it was asked and answers what stands in `answer`."""
    program = tmp_path / "bin" / "kubectl"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n[ "$1" = get ] && cat {tmp_path}/runs || cat {tmp_path}/answer\n'
    )
    program.chmod(0o755)
    (tmp_path / "answer").write_text("deployment.apps/under-test-ghost\nservice/under-test-ghost\n")
    labels = {"tags.datadoghq.com/version": "c0ffee-0123456"}
    spec = {"containers": [{"name": "serving", "image": "registry.example/under-test-serving@sha256:1"}]}
    found = {"spec": {"template": {"metadata": {"labels": labels}, "spec": spec}}}
    named = {"kind": "Deployment", "metadata": {"name": "under-test-ghost"}}
    (tmp_path / "runs").write_text(json.dumps({"items": [{**named, **found}]}))
    return {"PATH": f"{program.parent}:{os.environ['PATH']}"}


def test_what_belongs_to_the_ghost_is_removed_by_its_label(
    command: Command, tmp_path: Path, kubectl: dict[str, str]
) -> None:
    (tmp_path / "service.toml").write_text(SETTINGS)
    done = command("ghost", "stop", **kubectl)
    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        ["removed deployment.apps/under-test-ghost", "removed service/under-test-ghost"],
    )
    asked = (tmp_path / "asked").read_text().split()
    assert {"delete", "--namespace=models", "--selector=app.kubernetes.io/instance=under-test-ghost"} <= set(asked)
    assert "--dry-run=client" not in asked


def test_it_is_written_down_with_what_ran(command: Command, tmp_path: Path, kubectl: dict[str, str]) -> None:
    (tmp_path / "service.toml").write_text(SETTINGS)
    assert command("ghost", "stop", BUILD_USER="ada", **kubectl).returncode == 0
    (entry,) = [json.loads(path.read_text()) for path in (tmp_path / "store" / "releases" / "history").iterdir()]
    assert (entry["environment"], entry["action"], entry["by"]) == ("ghost", "stop", "ada")
    assert (entry["model"], entry["git_commit"], entry["outcome"]) == ("c0ffee", "0123456", "done")
    assert entry["image"] == "registry.example/under-test-serving@sha256:1"


def test_a_dry_run_removes_nothing(command: Command, tmp_path: Path, kubectl: dict[str, str]) -> None:
    (tmp_path / "service.toml").write_text(SETTINGS)
    done = command("ghost", "stop", "--dry-run", "--json", **kubectl)
    assert json.loads(done.stdout)["dry_run"] is True
    assert "--dry-run=client" in (tmp_path / "asked").read_text()
    assert not (tmp_path / "store" / "releases").exists()


def test_without_a_ghost_it_says_so(command: Command, tmp_path: Path, kubectl: dict[str, str]) -> None:
    (tmp_path / "service.toml").write_text(SETTINGS)
    (tmp_path / "answer").write_text("")
    (tmp_path / "runs").write_text("")
    done = command("ghost", "stop", **kubectl)
    assert (done.returncode, done.stdout) == (0, "no ghost of under-test runs in models\n")


def test_every_object_of_the_ghost_carries_the_label_and_no_other_one_does() -> None:
    instances = {
        overlay: {
            each["metadata"]["labels"]["app.kubernetes.io/instance"] for each in build(K8S / "overlays" / overlay)
        }
        for overlay in OVERLAYS
    }
    (ghost,) = instances["ghost"]
    assert ghost.endswith("-ghost")
    assert all(ghost not in found for overlay, found in instances.items() if overlay != "ghost")


def test_every_kind_of_object_that_a_ghost_has_is_removed() -> None:
    from mlplatform.delivery.ghost.trial import KINDS

    assert {each["kind"].lower() for each in build(K8S / "overlays" / "ghost")} <= set(KINDS.split(","))
