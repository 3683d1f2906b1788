"""`python -m mlplatform models`: what is published; and the help of all commands."""

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mlplatform.cli import cli
from mlplatform.store import manifest
from mlplatform.store.storage import LocalStorage
from mlplatform.tests.conftest import Command
from mlplatform.tests.delivery.conftest import Delivery, Repository

STORE = ("--store", "store")


def test_before_the_first_model_it_says_what_to_type(command: Command) -> None:
    done = command("models", *STORE)
    assert done.returncode == 0
    assert "yet; train the first one: python -m mlplatform submit" in done.stdout


def test_models_are_listed_with_what_they_were_made_from(command: Command, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    properties = {"metrics": {"accuracy": 0.98765}, "dataset": "d1", "code": "c1", "git_commit": "0123456789abcdef"}
    manifest.publish(LocalStorage(tmp_path / "store"), "models/v1", source, "model", "v1", properties)
    _, row = command("models", *STORE).stdout.splitlines()
    assert row.split()[0] == "v1"
    assert row.split()[2:] == ["0.9877", "d1", "c1", "0123456789", "-", "-"]


def test_without_aws_credentials_the_store_of_this_machine_is_shown(
    repository: Repository, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("DELIVERY_STORAGE_URL", "s3://models/under-test")
    repository.publish("aaaaaaaaaaaa")
    said = delivery("models")
    assert (said.code, "aaaaaaaaaaaa" in said.out) == (0, True)
    sentence = "no AWS credentials for s3://models/under-test, so this is the store of this machine, store"
    assert sentence in said.err
    assert "no AWS credentials" in delivery("models", "--store", "s3://models/under-test").err
    assert delivery("history").code == 0


def test_a_store_that_cannot_be_is_said(command: Command) -> None:
    done = command("models", "--store", "gs://bucket")
    assert done.returncode == 1
    assert "storage URL 'gs://bucket': must be a directory, file:///directory or s3://bucket/prefix" in done.stderr


def test_for_a_program_they_are_json(command: Command, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    properties = {"metrics": {"accuracy": 0.75}, "dataset": "d1", "parameters": {"epochs": 3}}
    manifest.publish(LocalStorage(tmp_path / "store"), "models/v1", source, "model", "v1", properties)
    (found,) = json.loads(command("models", "--json", *STORE).stdout)
    assert found["version"] == "v1"
    assert found["accuracy"] == 0.75
    assert found["parameters"] == {"epochs": 3}
    assert found["production"] is False


def test_a_command_that_there_is_not_is_refused_with_the_way_to_the_list(command: Command) -> None:
    done = command("realease")
    assert done.returncode == 2
    assert "No such command 'realease'" in done.stderr
    assert "python -m mlplatform --help" in done.stderr


def commands(found: click.Command, *path: str) -> Iterator[list[str]]:
    yield list(path)
    for name, each in getattr(found, "commands", {}).items():
        yield from commands(each, *path, name)


def test_the_help_of_every_command_is_text_alone(repository: Repository, delivery: Delivery) -> None:
    for path in commands(cli):
        said = delivery(*path, "--help")
        assert said.code == 0
        # What tells click to leave a paragraph as it is.
        assert "\\b" not in said.out, path
        assert all(character.isprintable() or character == "\n" for character in said.out), path
