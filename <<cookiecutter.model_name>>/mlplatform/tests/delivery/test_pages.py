"""Every delivery command in README.md, docs/ and deploy/, given in the order of the pages: they are one whole story.

A model is in production, another is trained, let through, bundled, tried in staging and as a ghost, promoted, watched
and taken back. AWS is moto's; a thread stands in for the job in Batch, which publishes a model and writes its log.
"""

import json
import os
import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from mlplatform.contract.errors import ExitCode
from mlplatform.contract.result import JobResult, write_result
from mlplatform.delivery.jobs.batch import Batch, Submission
from mlplatform.store import manifest
from mlplatform.store.releases import production
from mlplatform.store.storage import LocalStorage, Storage, open_storage
from mlplatform.tests.conftest import ROOT, Bucket
from mlplatform.tests.delivery.conftest import Delivery, Repository
from mlplatform.tests.delivery.datadog_api import FakeDatadog
from mlplatform.tests.ghost import observations
from mlplatform.tests.ghost.observations import GHOST, LIVE, answered

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "deploy").rglob("*.md"))]
SBOM = {"bomFormat": "CycloneDX", "components": [{"name": "flask"}]}
COMMAND = re.compile(r"nox -s delivery -- ([^`\n]+)")


def commands() -> list[str]:
    """What stands behind `nox -s delivery --`, in the order of the pages."""
    return [found for page in PAGES for found in COMMAND.findall(page.read_text(encoding="utf-8"))]


def publish(store: Storage, version: str, directory: Path, gate: dict[str, Any]) -> None:
    """Publish a model of two labels as the pipeline does."""
    (directory / "saved_model").mkdir(parents=True)
    (directory / "saved_model" / "saved_model.pb").write_bytes(b"weights")
    (directory / "report.html").write_text("<p>learned</p>")
    properties = {
        "metrics": {"accuracy": 0.95, "examples": 100, "invalid": 0, "export_difference": 0.0},
        "signature": {"inputs": [{"name": "x", "shape": [None, 1], "dtype": "float32"}]},
        "samples": [{"instance": {"x": [0.0]}, "label": "0"}],
        "labels": ["0", "1"],
        "dataset": "d",
        "run": version,
        "gate": gate,
    }
    manifest.publish(store, f"models/{version}", directory, "model", version, properties)


def client(service: str) -> Any:
    session: Any = boto3.session.Session()
    return session.client(service, endpoint_url=os.environ["AWS_ENDPOINT_URL"])


@pytest.fixture
def training(account: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that trains does so as soon as it is submitted: it publishes a model and writes its result."""
    submit = Batch.submit

    def submit_and_train(batch: Batch, submission: Submission, machines: int) -> str:
        job, store = submit(batch, submission, machines), open_storage(account.url)
        better = {"production": LIVE, "both": 80, "only_model": 15, "only_production": 0, "neither": 5}
        publish(store, GHOST, tmp_path / "trained", {"passed": True, "comparison": better})
        report = f"models/{GHOST}/report.html"
        write_result(store, job, JobResult(ExitCode.DONE, "published", model=GHOST, report=report))
        return job

    monkeypatch.setattr(Batch, "submit", submit_and_train)


@pytest.fixture
def datadog(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDatadog]:
    """Datadog, and the keys to it."""
    fake = FakeDatadog()
    with fake.serving() as url:
        for name, value in {"DD_API_KEY": "api", "DD_APP_KEY": "app", "DELIVERY_DATADOG_URL": url}.items():
            monkeypatch.setenv(name, value)
        yield fake


def test_every_delivery_command_of_the_pages_does_what_it_should(
    cluster: Repository,
    account: Bucket,
    queue: str,
    training: None,
    datadog: FakeDatadog,
    delivery: Delivery,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(observations, "NOON", datetime.now(UTC) - timedelta(hours=2))
    store = open_storage(account.url)
    publish(store, LIVE, tmp_path / "live", {"passed": True, "comparison": None})
    live = delivery("bundle", LIVE).out.strip()
    assert delivery("deploy", "--environment", "production", "--image", live).code == 0
    answered(tmp_path / "events", [True, False] * 250, [True] * 500, known=0)
    for key in (events := LocalStorage(tmp_path / "events")).keys(""):
        store.write(key, events.read(key))
    Path("labels.csv").write_text("request_id,label\n" + "".join(f"r{i},{observations.label(i)}\n" for i in range(500)))
    (cluster.programs / "sbom.cdx.json").write_text(json.dumps(SBOM))
    filled_in = {"VERSION": GHOST, "IMAGE": live, "FILE": "labels.csv"}
    said: dict[str, str] = {}
    for command in commands():
        if "JOB" in command:
            listed = client("batch").list_jobs(jobQueue=queue, jobStatus="SUCCEEDED")["jobSummaryList"]
            filled_in["JOB"] = listed[0]["jobId"]
        done = delivery(*(filled_in.get(word, word) for word in shlex.split(command)))
        assert done.code == 0, f"{command}: {done.err}"
        said.setdefault(command, done.out)
        if command.startswith("promote"):
            assert production(store) == GHOST
        if command == "rollback --environment production":
            assert production(store) != filled_in.get("rolled back")
            filled_in["rolled back"] = production(store) or ""
    assert said["submit --epochs 30"].startswith(f"model version {GHOST}\n")
    assert said["ghost-report --since 24h"].startswith(f"promote: ghost {GHOST} beside {LIVE}\n")
    assert len(datadog.dashboards) == 1
    assert f"in production, as the store has it: {GHOST}" in said["status"]
    assert {"deploy", "promote"} <= set(said["history"].split())
    assert said["rollback --environment production"].startswith(f"production runs {LIVE}\n")
    assert json.loads(said["sbom IMAGE"]) == SBOM
