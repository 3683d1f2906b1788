"""`doctor`: what is missing on this machine, and what to do; and the order of the first day."""

import json
from pathlib import Path

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
    (repository.programs / "refused").write_text("pods/portforward")
    said = delivery("doctor", "--json")
    assert said.code == 1
    found = {each["check"]: each for each in json.loads(said.out)}
    for check, mend in {
        "store": "there is no such bucket; create it, or correct the store's URL",
        "registry": "check container_registry of [delivery] and the network",
        "job queue": "the first lines of deploy/aws/stack.yaml say how to make it",
        "job definition": "run from the repository's root, or correct it in [delivery]",
        "rights in it": "this user may not create pods/portforward",
        "Datadog key": "DD_API_KEY and DD_APP_KEY not set",
    }.items():
        assert not found[check]["good"]
        assert mend in found[check]["said"]
    assert found["AWS credentials"]["good"]
    assert found["kubectl"]["good"]
    assert "doctor: missing: " in said.err
    assert "Traceback" not in said.err


def test_what_only_follows_from_something_that_is_missing_is_not_missing_itself(
    repository: Repository, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("DELIVERY_STORAGE_URL", "s3://models/under-test")
    monkeypatch.setenv("DELIVERY_CONTAINER_REGISTRY", "123456789012.dkr.ecr.us-east-2.amazonaws.com")
    (repository.programs / "no-namespace").touch()
    said = delivery("doctor")
    assert said.code == 1
    without = "not looked for without"
    lines = {line[11:27].strip(): line for line in said.out.splitlines() if line.startswith("  ")}
    for check, missing in {
        "store": "AWS credentials",
        "job queue": "AWS credentials",
        "registry": "AWS credentials",
        "rights in it": "namespace",
    }.items():
        assert lines[check].endswith(f"{without} {missing}")
    named = said.err.partition("missing: ")[2].partition(";")[0].split(", ")
    assert "AWS credentials" in named and "namespace" in named
    assert not {"store", "job queue", "registry", "rights in it"} & set(named)


def test_checks_stand_below_what_they_are_for(repository: Repository, delivery: Delivery) -> None:
    groups = [line for line in delivery("doctor").out.splitlines() if not line.startswith("  ")]
    assert groups == [
        "to train on this machine",
        "to train and keep models in AWS",
        "to build images",
        "to release to a cluster",
        "to watch in Datadog",
    ]


def test_a_machine_that_knows_no_cluster_says_so_in_one_sentence(
    repository: Repository, delivery: Delivery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The words of kubectl without a kubeconfig.
    refused = "The connection to the server localhost:8080 was refused - did you specify the right host or port?"
    (tmp_path / "programs" / "kubectl").write_text(f"#!/bin/sh\necho '{refused}' >&2\nexit 1\n", encoding="utf-8")
    said = delivery("preview")
    assert said.code == 1
    assert said.err.splitlines()[-1] == (
        "preview: the cluster does not answer: kubectl knows of none; set KUBECONFIG, or choose one by "
        "`kubectl config use-context NAME`"
    )


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
