"""`python -m mlplatform train` with its store on S3, and a network in between that is not always there."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import model
from mlplatform.cli import main
from mlplatform.data.records import SUFFIXES
from mlplatform.store import manifest
from mlplatform.store.storage import open_storage
from mlplatform.tests.conftest import Bucket
from mlplatform.tests.faults import FOREVER, Answer, Reset, Truncated
from mlplatform.tests.training.conftest import PYTHONPATH, run

pytestmark = pytest.mark.long

QUICK = ("--epochs", "1", "--minimum-accuracy", "0")
# Converting is half of such a training, and where it is not in question it is left out.
WITHOUT_COPY = ("--litert", "false")

Train = Callable[..., tuple[int, str, str]]


@pytest.fixture
def train(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Train:
    """Train on the bucket, in this process: TensorFlow starts slowly. Exit code, and what it says."""
    (tmp_path / "service.toml").write_text(f'[service]\nname = "under-test"\n[storage]\nurl = "{bucket.url}"\n')
    monkeypatch.chdir(tmp_path)

    def trained(*arguments: str) -> tuple[int, str, str]:
        code = main(["train", *QUICK, *arguments])
        return int(code), *capfd.readouterr()

    return trained


def keys(bucket: Bucket) -> list[str]:
    """Names only: what is listed may be replaced before it is read."""
    return [found["Key"] for found in bucket.client.list_objects_v2(Bucket=bucket.name).get("Contents", [])]


def published(bucket: Bucket) -> list[str]:
    return [key for key in bucket.objects() if key.startswith("models/")]


@pytest.mark.nightly
def test_a_run_comes_through_faults_of_every_kind(
    bucket: Bucket, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As many as there are: several faults may come together at one request.
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    faults = bucket.faults
    faults.fault(Answer(503, "SlowDown"), "PUT", "gathered/")
    faults.fault(Answer(500, "InternalError"), "GET", "list-type")
    for nth in (2, 9, 16):
        faults.fault(Reset(handled=True), "PUT", "", nth=nth)
        faults.fault(Answer(500, "InternalError"), "PUT", "", nth=nth + 2)
        faults.fault(Reset(handled=False), "PUT", "", nth=nth + 4)
        faults.fault(Truncated(), "GET", r"/(datasets|runs)/.+\.", nth=nth)
        faults.fault(Answer(500, "InternalError"), "HEAD", "", nth=nth)
    faults.fault(Reset(handled=True), "PUT", "models/.*/manifest.json")
    code, out, err = train()
    assert code == 0, err
    assert faults.not_made() == []
    (model,) = manifest.list_artifacts(open_storage(bucket.url), "models")
    assert f"model   {bucket.url}/models/{model.id}" in out
    _, content = manifest.fetch(open_storage(bucket.url), f"models/{model.id}", tmp_path / "cache")
    assert (content / "saved_model" / "saved_model.pb").is_file()


def test_a_store_that_fails_half_way_ends_the_run_without_a_model_and_the_next_run_goes_on(
    bucket: Bucket, train: Train
) -> None:
    bucket.faults.fault(Answer(500, "InternalError"), "PUT", "models/.*/manifest.json", times=3)
    code, _, err = train(*WITHOUT_COPY)
    assert code == 1
    assert "manifest.json: S3 answered 500 InternalError in each of 3 attempts; try again later" in err
    assert "Traceback" not in err
    assert manifest.list_artifacts(open_storage(bucket.url), "models") == []
    before = len(bucket.faults.requests)
    assert train(*WITHOUT_COPY)[0] == 0
    assert len(manifest.list_artifacts(open_storage(bucket.url), "models")) == 1
    # What was trained was not trained again.
    assert not [request for request in bucket.faults.requests[before:] if "PUT" in request and "/training/" in request]


@pytest.mark.parametrize(
    ("status", "code", "sentence"),
    [
        (500, "InternalError", "S3 answered 500 in each of 3 attempts; try again later"),
        (403, "AccessDenied", "access denied (AccessDenied); it takes s3:GetObject"),
        (403, "InvalidAccessKeyId", "S3 does not accept the AWS credentials (InvalidAccessKeyId); set AWS_PROFILE"),
        (400, "ExpiredToken", "the AWS credentials have expired; log in again or renew them"),
    ],
)
def test_a_store_that_answers_nothing_else_is_said(
    bucket: Bucket, train: Train, status: int, code: str, sentence: str
) -> None:
    for method in ("GET", "HEAD", "PUT"):
        bucket.faults.fault(Answer(status, code), method, "", times=FOREVER)
    exit_code, _, err = train()
    assert exit_code == 1
    assert err.startswith(f"train: {bucket.url}/")
    assert sentence in err
    assert err.count("\n") == 1
    assert bucket.objects() == {}


def test_missing_credentials_are_said(bucket: Bucket, train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    code, _, err = train()
    assert code == 1
    assert "no AWS credentials" in err
    assert "Traceback" not in err


def test_a_run_goes_on_where_a_lost_machine_was_with_source_and_store_on_s3(bucket: Bucket, tmp_path: Path) -> None:
    for path in (path for path in model.DATA.iterdir() if path.name.endswith(SUFFIXES)):
        bucket.client.upload_file(str(path), bucket.name, f"source/{path.name}")
    source = f"s3://{bucket.name}/source"
    parameters = (
        "--epochs",
        "40",
        "--checkpoint-seconds",
        "0.05",
        "--minimum-accuracy",
        "0",
        "--source",
        source,
        "--litert",
        "false",
    )
    for machine in ("lost", "other"):
        (tmp_path / machine).mkdir()
        (tmp_path / machine / "service.toml").write_text(
            f'[service]\nname = "under-test"\n[storage]\nurl = "{bucket.url}"\n'
        )
    lost = subprocess.Popen(
        [sys.executable, "-m", "mlplatform", "train", *parameters],
        cwd=tmp_path / "lost",
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not any("/checkpoints/" in key for key in keys(bucket)):
            assert lost.poll() is None
            time.sleep(0.02)
    finally:
        lost.kill()
        lost.wait()
    done = run(tmp_path / "other", "train", *parameters)
    assert done.returncode == 0, done.stderr
    assert "checked before" not in done.stdout, "what was gathered is not gathered again"
    assert "resuming from a checkpoint" in done.stdout
    assert len(published(bucket)) > 1
    assert not [key for key in keys(bucket) if "/checkpoints/" in key]
