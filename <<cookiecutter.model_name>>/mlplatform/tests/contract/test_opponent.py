"""Which model in production a new one is compared with: decided in one place, for the pipeline and for delivery."""

from pathlib import Path
from typing import Any

import pytest

from mlplatform.contract.comparison import Opponent
from mlplatform.contract.opponent import choose
from mlplatform.store import manifest
from mlplatform.store.releases import PRODUCTION, set_production
from mlplatform.store.storage import LocalStorage

TASK = {"signature": {"inputs": [{"name": "x", "shape": [None], "dtype": "float32"}]}, "labels": ["no", "yes"]}


@pytest.fixture
def store(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "store")


def release(store: LocalStorage, tmp_path: Path, **properties: Any) -> None:
    (tmp_path / "live").mkdir()
    manifest.publish(store, "models/live", tmp_path / "live", "model", "live", {**TASK, **properties})
    set_production(store, "live")


def test_nothing_before_the_first_release(store: LocalStorage) -> None:
    choice = choose(store, "new", TASK)
    assert choice.production is None
    assert choice.opponent == Opponent(skipped="there is no model in production yet")


def test_the_model_in_production(store: LocalStorage, tmp_path: Path) -> None:
    release(store, tmp_path)
    choice = choose(store, "new", TASK)
    assert choice.production is not None
    assert (choice.production.id, choice.opponent) == ("live", None)


def test_not_with_itself(store: LocalStorage, tmp_path: Path) -> None:
    release(store, tmp_path)
    assert choose(store, "live", TASK).opponent == Opponent(skipped="this is the model in production")


def test_not_with_a_model_of_another_task(store: LocalStorage, tmp_path: Path) -> None:
    release(store, tmp_path, labels=["a", "b"])
    opponent = choose(store, "new", TASK).opponent
    assert opponent is not None
    assert opponent.skipped.startswith("model live is in production, and it knows other labels: ")


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("models/live/manifest.json", "model live, in production, is damaged: "),
        (PRODUCTION, "the model in production is not known: "),
    ],
)
def test_one_that_cannot_be_read_closes_the_gate(store: LocalStorage, tmp_path: Path, key: str, reason: str) -> None:
    release(store, tmp_path)
    store.write(key, b"{")
    opponent = choose(store, "new", TASK).opponent
    assert opponent is not None
    assert opponent.unusable.startswith(reason)


def test_one_that_is_gone_closes_the_gate(store: LocalStorage, tmp_path: Path) -> None:
    release(store, tmp_path)
    store.delete("models/live/manifest.json")
    opponent = choose(store, "new", TASK).opponent
    assert opponent is not None
    assert opponent.unusable == f"model live, said to be in production, is not in {store.url}/models"
