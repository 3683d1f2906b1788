"""The Jenkins job with the real delivery commands and their locked packages: moto is AWS, a cluster stands in."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aws import Aws, account
from conftest import Render
from pipeline import Build, Jenkins
from rendered import DEFAULTS, commit_all, module

pytestmark = pytest.mark.jenkins

NAME = DEFAULTS["model_name"]
MODEL = "0123456789ab"
JOB_URL = "https://jenkins.example.com/job/models/job/release/"
# Variables of this process that a job of Jenkins does not have.
NOT_THE_JOBS = ("AWS_", "DELIVERY_", "GIT_", "NOX_")
SBOM = {"bomFormat": "CycloneDX", "components": [{"name": "flask"}]}
# Published by the repository's own code, run by the environment that the job made.
PUBLISH = """
import sys
from pathlib import Path
from mlplatform.store import manifest
from mlplatform.store.storage import open_storage
url, version, source = sys.argv[1], sys.argv[2], Path(sys.argv[3])
(source / "saved_model").mkdir(parents=True)
(source / "saved_model" / "saved_model.pb").write_bytes(b"weights")
metrics = {"accuracy": 0.95, "examples": 100, "invalid": 0, "export_difference": 0.0}
properties = {"metrics": metrics, "labels": ["0", "1"], "samples": [], "run": "r", "dataset": "d"}
manifest.publish(open_storage(url), f"models/{version}", source, "model", version, properties)
"""


@dataclass
class Site:
    """A job, and all that is around it. environment: of every agent; registry: the images' registry."""

    jenkins: Jenkins
    repository: Path
    directory: Path
    aws: Aws
    registry: Any
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> str:
        return f"s3://releases/{NAME}"

    def press(self, number: int = 7, restart: dict[str, Any] | None = None, **parameters: str) -> Build:
        """Build with parameters, or restart a stage of the build before, in a job that allows it."""
        jenkinsfile = (self.repository / "Jenkinsfile").read_text(encoding="utf-8")
        return self.jenkins.build(
            jenkinsfile.replace("disableRestartFromStage()", "") if restart else jenkinsfile,
            self.directory / "workspaces",
            parameters,
            machine="agent",
            checkout=str(self.repository),
            environment=self.environment | {"BUILD_URL": f"{JOB_URL}{number}/", "BUILD_NUMBER": str(number)},
            startedBy="anne",
            inputs={"Approval": {"answer": "proceed", "by": "bob"}},
            groups={DEFAULTS["owning_team"]: ["anne", "bob"]},
            restart=restart,
            credentials={
                "aws-web-identity-token": {"kind": "file", "value": str(self.directory / "token")},
                f"{NAME}-aws-role": {"kind": "string", "value": "arn:aws:iam::123456789012:role/releases"},
                "kubeconfig": {"kind": "file", "value": str(self.directory / "kubeconfig")},
            },
        )

    def publish(self, version: str) -> None:
        """Publish a model into the store, as somebody with a key."""
        workspace = self.directory / "workspaces" / "agent"
        keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
        subprocess.run(
            [workspace / ".venv" / "bin" / "python", "-c", PUBLISH, self.store, version, self.directory / version],
            cwd=workspace,
            env={**self.environment, **keys},
            check=True,
        )


@pytest.fixture(scope="module")
def site(jenkins: Jenkins, render: Render, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    repository = directory / "repository"
    shutil.copytree(render({}), repository)
    commit_all(repository, "As rendered")
    programs, kept = directory / "programs", directory / "kept"
    for each in (programs, kept):
        each.mkdir()
    for path in (repository / "mlplatform" / "tests" / "delivery" / "programs").glob("*.py"):
        (programs / path.stem).write_text(f'#!/bin/sh\nexec "{sys.executable}" "{path}" "$@"\n')
        (programs / path.stem).chmod(0o755)
    (kept / "sbom.cdx.json").write_text(json.dumps(SBOM))
    (directory / "token").write_text("a token of this build")
    kubectl = shutil.which("kubectl", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert kubectl is not None, "kubectl is not installed: https://kubernetes.io/docs/tasks/tools"
    with (
        account(DEFAULTS["aws_region"], directory / "moto.log") as aws,
        module(repository / "mlplatform" / "tests" / "registry.py").Registry().running() as registry,
    ):
        aws.client("s3").create_bucket(
            Bucket="releases", CreateBucketConfiguration={"LocationConstraint": DEFAULTS["aws_region"]}
        )
        found = Site(jenkins, repository, directory, aws, registry)
        found.environment = {
            # No key for AWS, and none to be found on this machine: what is done there is done by the token.
            **{name: value for name, value in os.environ.items() if not name.startswith(NOT_THE_JOBS)},
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(directory),
            "STAND_IN": str(kept),
            "REAL_KUBECTL": kubectl,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{aws.port}",
            "AWS_EC2_METADATA_DISABLED": "true",
            "DELIVERY_STORAGE_URL": found.store,
            "DELIVERY_CONTAINER_REGISTRY": f"{registry.host}/team",
            "DELIVERY_POLL_SECONDS": "0.1",
            "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR", str(Path.home() / ".cache" / "pip")),
        }
        yield found


def test_a_job_on_its_first_day_says_that_there_is_nothing_and_what_comes_first(site: Site) -> None:
    done = site.press(ACTION="status")
    assert done.result == "SUCCESS", done.log
    assert "no model in s3://releases/" in done.log
    assert "python -m mlplatform submit" in done.log
    refused = site.press(ACTION="rollback", ENVIRONMENT="staging")
    assert (refused.result, refused.error) == ("FAILURE", "script returned exit code 3")


def test_a_model_goes_from_s3_into_the_registry_and_the_cluster_without_a_key(site: Site) -> None:
    site.publish(MODEL)
    done = site.press(ACTION="deploy", ENVIRONMENT="staging", MODEL_VERSION=MODEL)
    assert (done.result, done.error) == ("SUCCESS", None), done.log
    assert done.stages == ["Parameters", "Bundle", "Deploy"]
    # The image that was pushed is the one that was deployed, by digest.
    pushed = {name for repository, name in site.registry.manifests if repository == f"team/{NAME}-serving"}
    (digest,) = (name for name in pushed if name.startswith("sha256:"))
    cluster = json.loads((site.directory / "kept" / "cluster.json").read_text())
    container = cluster["objects"][f"Deployment/{NAME}-staging"]["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == f"{site.registry.host}/team/{NAME}-serving@{digest}"
    (archived,) = done.of("archive", stage="Bundle")
    assert json.loads(Path(archived["kept"], archived["files"][0]).read_text()) == SBOM


def test_production_gets_what_was_approved_and_nothing_by_a_restart_of_its_stage(site: Site) -> None:
    done = site.press(ACTION="deploy", ENVIRONMENT="production", MODEL_VERSION=MODEL)
    assert (done.result, done.error) == ("SUCCESS", None), done.log
    (question,) = done.of("input")
    assert question["message"].startswith(f"Into production? deploy {MODEL}, the first release: the gate is ")
    before = {"stage": "Deploy", "variables": done.variables}
    restarted = site.press(8, before, ACTION="deploy", ENVIRONMENT="production", MODEL_VERSION=MODEL)
    assert (restarted.result, restarted.error) == ("FAILURE", "script returned exit code 3")
    assert f"the approval is of another build, {JOB_URL}7/ 7" in restarted.log
    listed = site.press(ACTION="status").log
    assert f"bob, {JOB_URL}7/" in listed
    assert f"{JOB_URL}8/" not in listed


def test_a_deployment_of_what_is_not_there_ends_before_the_cluster(site: Site) -> None:
    done = site.press(ACTION="deploy", ENVIRONMENT="staging", MODEL_VERSION="ffffffffffff")
    assert (done.result, done.stages) == ("FAILURE", ["Parameters", "Bundle"])
    assert "model version 'ffffffffffff': not in s3://releases/" in done.log
