"""`doctor`: what is missing on this machine, and what to do; and the order of the first day."""

import json

import pytest

from mlplatform.tests.conftest import Bucket
from mlplatform.tests.delivery.conftest import Delivery, Repository


def test_everything_that_is_missing_is_named_with_what_to_do(
    repository: Repository, bucket: Bucket, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELIVERY_STORAGE_URL", "s3://no-such-bucket-here/x")
    monkeypatch.setenv("DELIVERY_CONTAINER_REGISTRY", "127.0.0.1:9/team")
    monkeypatch.setenv("DELIVERY_BATCH_JOB_QUEUE", "no-such-queue")
    monkeypatch.delenv("DD_API_KEY", raising=False)
    (repository.programs / "no-namespace").touch()
    (repository.programs / "refused").write_text("pods/portforward")
    said = delivery("doctor", "--json")
    assert said.code == 1
    found = {each["check"]: each for each in json.loads(said.out)}
    for check, mend in {
        "store": "there is no such bucket; create it, or correct the store's URL",
        "registry": "check container_registry of [delivery] and the network",
        "job queue": "the first lines of deploy/aws/stack.yaml say how to make it",
        "job definition": "run from the repository's root, or correct it in [delivery]",
        "namespace": "kubectl create namespace models",
        "rights in it": "this user may not create pods/portforward",
        "Datadog key": "DD_API_KEY and DD_APP_KEY not set",
    }.items():
        assert not found[check]["good"]
        assert mend in found[check]["said"]
    assert found["AWS credentials"]["good"]
    assert found["kubectl"]["good"]
    assert "doctor: missing: " in said.err
    assert "Traceback" not in said.err


def test_a_store_without_models_is_no_fault(
    repository: Repository, bucket: Bucket, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELIVERY_STORAGE_URL", bucket.url)
    found = {each["check"]: each for each in json.loads(delivery("doctor", "--json").out)}
    assert found["store"]["good"]
    assert "no model yet: python -m mlplatform submit" in found["store"]["said"]


def test_no_secret_is_shown(
    repository: Repository, bucket: Bucket, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DD_API_KEY", "api-s3cret")
    monkeypatch.setenv("DD_APP_KEY", "app-s3cret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws-s3cret")
    said = delivery("doctor")
    assert "s3cret" not in said.out + said.err
    assert "DD_API_KEY and DD_APP_KEY are set" in said.out


@pytest.mark.parametrize(
    ("command", "next_step"),
    [
        (("image", "serving"), "train the first one: python -m mlplatform submit"),
        (("submit",), "build it first: python -m mlplatform image training"),
        (("gate", "0123456789ab"), "train the first one: python -m mlplatform submit"),
        (("bundle", "0123456789ab"), "train the first one: python -m mlplatform submit"),
        (("deploy", "--environment", "ghost", "--model", "0123456789ab"), "python -m mlplatform submit"),
        (("rollback", "--environment", "production"), "python -m mlplatform history --environment production"),
        (("promote",), "no ghost runs; the first: python -m mlplatform deploy --environment ghost"),
        (("models",), "train the first one: python -m mlplatform submit"),
        (("status",), "the first release: python -m mlplatform deploy"),
        (("history",), "the first: python -m mlplatform deploy --help"),
    ],
)
def test_on_the_first_day_every_command_says_what_comes_next(
    repository: Repository,
    bucket: Bucket,
    delivery: Delivery,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    next_step: str,
) -> None:
    monkeypatch.setenv("DELIVERY_STORAGE_URL", bucket.url)
    said = delivery(*command)
    # To list what there is of nothing is no refusal.
    assert said.code == (0 if command[0] in ("models", "status", "history") else 3)
    assert next_step in said.out + said.err
    assert "Traceback" not in said.err
