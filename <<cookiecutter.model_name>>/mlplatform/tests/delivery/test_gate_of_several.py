"""`gate` of a model of several targets: each is judged by itself, again by what the store holds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlplatform.contract import gate
from mlplatform.contract.comparison import Opponent
from mlplatform.contract.criteria import Criteria
from mlplatform.contract.targets import Classes, Number
from mlplatform.contract.targets.several import Several
from mlplatform.store import manifest
from mlplatform.store.releases import set_production
from mlplatform.tests.delivery.conftest import Delivery, Repository

TARGET = Several([Classes("kind", "ab"), Number("size", "cm")])
NUMBERS = np.arange(400)
TRUTH = np.column_stack([NUMBERS % 2, NUMBERS % 17 * 3.0]).astype(np.float32)


def predictions(wrong: int, off: float) -> NDArray[np.float32]:
    """Of a model that is wrong about the kind of the first examples, and off by as much in the size of each."""
    kinds = np.where(wrong > NUMBERS, 1 - NUMBERS % 2, NUMBERS % 2)
    noise = np.where(NUMBERS // 2 % 2, off, -off)
    return np.column_stack([np.eye(2)[kinds] * 0.8 + 0.1, TRUTH[:, 1] + noise]).astype(np.float32)


@pytest.fixture
def dataset(repository: Repository, tmp_path: Path) -> None:
    """A dataset whose test split has the truths."""
    test = tmp_path / "dataset" / "test"
    test.mkdir(parents=True)
    np.save(test / "000000.id.npy", np.array([f"{number:04}".encode() for number in NUMBERS]))
    np.save(test / "000000.label.npy", TRUTH)
    manifest.publish(repository.store, "datasets/data", test.parent, "dataset", "data", {})


def trained(
    repository: Repository, tmp_path: Path, version: str, wrong: int, off: float, beside: Any = None
) -> NDArray[np.float32]:
    """A published model, and what its run predicted. beside: what production, `live`, predicted, for the verdict."""
    predicted, criteria = predictions(wrong, off), TARGET.fitted(Criteria(by_default=True))
    rows, opponent = TARGET.rows(TRUTH, predicted), Opponent(skipped="there is no model in production yet")
    if beside is not None:
        opponent = TARGET.compare("live", rows, TARGET.rows(TRUTH, beside), criteria)
    metrics = {**TARGET.metrics(rows), "export_difference": 0.0}
    verdict = gate.judge(TARGET, metrics, criteria, opponent, TARGET.against_constant(rows, criteria, TRUTH))
    directory = tmp_path / f"run-{version}"
    directory.mkdir()
    np.save(directory / "predictions.npy", predicted)
    manifest.publish(repository.store, f"runs/{version}/evaluation", directory, "evaluation", version, {})
    repository.publish(
        version,
        run=version,
        dataset="data",
        metrics=metrics,
        gate=verdict.to_json(),
        labels=[],
        targets=[part.to_json() for part in TARGET.parts],
        signature={"inputs": [{"name": "x", "shape": [None, 1], "dtype": "float32"}]},
    )
    return predicted


def test_a_good_first_model_is_let_through(repository: Repository, delivery: Delivery, tmp_path: Path) -> None:
    trained(repository, tmp_path, "one", wrong=4, off=1.0)
    said = delivery("gate", "one")
    assert said.code == 0, said.err
    assert "the gate is open for model one, kind: accuracy 0.9900; size: mean absolute error 1 cm" in said.out


def test_the_worst_of_them_closes_it(repository: Repository, delivery: Delivery, tmp_path: Path) -> None:
    trained(repository, tmp_path, "one", wrong=80, off=1.0)
    said = delivery("gate", "one")
    assert said.code == 4
    assert "kind: accuracy 0.8000 on the test split is below minimum 0.9 of [gate.kind.accuracy]" in said.err
    assert "size: " not in said.err


@pytest.mark.usefixtures("dataset")
def test_each_is_compared_with_production(repository: Repository, delivery: Delivery, tmp_path: Path) -> None:
    trained(repository, tmp_path, "live", wrong=20, off=1.0)
    trained(repository, tmp_path, "better", wrong=4, off=0.5)
    trained(repository, tmp_path, "worse", wrong=4, off=6.0)
    set_production(repository.store, "live")
    said = delivery("gate", "better", "--json")
    assert said.code == 0, said.err
    answer = json.loads(said.out)
    assert answer["compared"] == "with live, on the 400 examples that are in the test split of both"
    assert answer["targets"]["kind"]["comparison"]["only_model"] == 16
    assert answer["targets"]["size"]["comparison"]["closer"] == 400
    said = delivery("gate", "worse")
    assert said.code == 4
    assert "size: r2_score is 0.1" in said.err
    assert "kind: " not in said.err


def test_the_pipelines_own_comparison_is_used(repository: Repository, delivery: Delivery, tmp_path: Path) -> None:
    live = trained(repository, tmp_path, "live", wrong=4, off=1.0)
    trained(repository, tmp_path, "one", wrong=30, off=1.0, beside=live)
    set_production(repository.store, "live")
    said = delivery("gate", "one")
    assert said.code == 4
    assert "as the pipeline compared it with live, on 400 test examples" in said.err
    assert "kind: accuracy is 0.0650 lower than that of live in production" in said.err
