"""`gate`: the pipeline's gate, asked again by what the store holds."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from mlplatform.store import manifest
from mlplatform.store.releases import set_production
from mlplatform.tests.delivery.conftest import Delivery, Repository

LABELS = np.array([0, 1] * 500, np.int32)
SIGNATURE = {"inputs": [{"name": "x", "shape": [None, 1], "dtype": "float32"}]}


def dataset(repository: Repository, tmp_path: Path, version: str, first: int, last: int) -> None:
    """A dataset whose test split has the examples with these numbers, in two shards."""
    test = tmp_path / f"dataset-{version}" / "test"
    test.mkdir(parents=True)
    for shard, numbers in enumerate(np.array_split(np.arange(first, last), 2)):
        np.save(test / f"{shard:06}.id.npy", np.array([f"{n:04}".encode() for n in numbers]))
        np.save(test / f"{shard:06}.label.npy", LABELS[numbers])
    manifest.publish(repository.store, f"datasets/{version}", test.parent, "dataset", version, {})


def trained(
    repository: Repository, tmp_path: Path, version: str, data: str, first: int, last: int, wrong: range, **extra: Any
) -> None:
    """A published model that is wrong about these examples, and what its run predicted."""
    directory = tmp_path / f"run-{version}"
    directory.mkdir()
    numbers = np.arange(first, last)
    classes = np.where(np.isin(numbers, list(wrong)), 1 - LABELS[numbers], LABELS[numbers])
    np.save(directory / "predictions.npy", np.eye(2, dtype=np.float32)[classes])
    manifest.publish(repository.store, f"runs/{version}/evaluation", directory, "evaluation", version, {})
    accuracy = float((classes == LABELS[numbers]).mean())
    metrics = {"accuracy": accuracy, "examples": len(numbers), "invalid": 0, "export_difference": 0.0}
    gate = {"passed": True, "comparison": None, **extra}
    repository.publish(version, run=version, dataset=data, metrics=metrics, gate=gate, signature=SIGNATURE)


def test_a_good_first_model_is_let_through(repository: Repository, delivery: Delivery, tmp_path: Path) -> None:
    trained(repository, tmp_path, "one", "d", 0, 100, range(2))
    said = delivery("gate", "one")
    assert said.code == 0, said.err
    assert said.out.splitlines() == [
        "the gate is open for model one, accuracy 0.9800",
        "  not compared with production: there is no model in production yet",
        "next: python -m mlplatform bundle one",
    ]


def test_one_below_what_is_asked_for_now_is_refused(repository: Repository, delivery: Delivery, tmp_path: Path) -> None:
    trained(repository, tmp_path, "one", "d", 0, 100, range(20))
    said = delivery("gate", "one")
    assert said.code == 4
    assert (
        "the gate is closed for model one: accuracy 0.8000 on the test split is below minimum 0.9 of [gate.accuracy]"
        in said.err
    )


def test_it_is_compared_with_production_on_the_examples_that_neither_learned_from(
    repository: Repository, delivery: Delivery, tmp_path: Path
) -> None:
    dataset(repository, tmp_path, "old", 0, 800)
    dataset(repository, tmp_path, "new", 200, 1000)
    trained(repository, tmp_path, "live", "old", 0, 800, range(0))
    trained(repository, tmp_path, "better", "new", 200, 1000, range(800, 810))
    trained(repository, tmp_path, "worse", "new", 200, 1000, range(200, 230))
    set_production(repository.store, "live")
    said = delivery("gate", "better")
    assert said.code == 0, said.err
    assert "with live, on the 600 examples that are in the test split of both" in said.out
    said = delivery("gate", "worse", "--json")
    assert said.code == 4
    assert "accuracy is 0.0500 lower than that of live in production on the same 600 test examples" in said.err
    assert json.loads(said.out)["comparison"]["only_production"] == 30


def test_the_pipelines_own_comparison_with_this_production_is_used(
    repository: Repository, delivery: Delivery, tmp_path: Path
) -> None:
    trained(repository, tmp_path, "live", "d", 0, 100, range(0))
    counted = {"production": "live", "both": 90, "only_model": 2, "only_production": 8, "neither": 0}
    trained(repository, tmp_path, "one", "d", 0, 100, range(2), comparison=counted)
    set_production(repository.store, "live")
    said = delivery("gate", "one")
    assert said.code == 4
    assert "as the pipeline compared it with live, on 100 test examples" in said.err


def test_what_cannot_be_compared_closes_the_gate(repository: Repository, delivery: Delivery, tmp_path: Path) -> None:
    trained(repository, tmp_path, "live", "d", 0, 100, range(0))
    trained(repository, tmp_path, "one", "gone", 0, 100, range(0))
    set_production(repository.store, "live")
    said = delivery("gate", "one")
    assert said.code == 4
    assert "what both predicted is not in the store" in said.err
    assert "train again with the same parameters" in said.err


def test_a_model_of_another_task_is_not_compared(repository: Repository, delivery: Delivery, tmp_path: Path) -> None:
    trained(repository, tmp_path, "one", "d", 0, 100, range(0))
    repository.publish("live", labels=["a", "b"], signature=SIGNATURE, run="live", dataset="d")
    set_production(repository.store, "live")
    said = delivery("gate", "one")
    assert said.code == 0, said.err
    assert "model live is in production, and it knows other labels" in said.out


def test_before_the_first_model_says_what_to_type(repository: Repository, delivery: Delivery) -> None:
    said = delivery("gate", "one")
    assert said.code == 3
    assert "yet; train the first one: python -m mlplatform submit" in said.err
