"""Drift as the server counts it: PSI of the last rows against the baseline of the training."""

import numpy as np

from mlplatform.contract.drift import SHIFTED, STABLE, histogram
from mlplatform.contract.lengths import Length
from mlplatform.contract.targets import Number, Tags, Vector
from mlplatform.serving.observability.drift import HALF, Drift, Window

SHARES = [0.1] * 10


def test_there_is_none_before_there_are_enough_rows() -> None:
    window = Window(SHARES)
    window.add(np.zeros(HALF - 1, np.int64), HALF - 1)
    assert window.psi() is None
    window.add(np.zeros(1, np.int64), 1)
    assert window.psi() is not None


def test_rows_like_those_of_the_training_are_stable_and_others_are_shifted() -> None:
    window = Window(SHARES)
    window.add(np.arange(HALF) % 10, HALF)
    assert window.psi() == 0
    for _ in range(2):
        window.add(np.arange(HALF) % 5, HALF)
    assert (window.psi() or 0) > SHIFTED > STABLE


def test_what_is_missing_is_a_bin_of_its_own() -> None:
    random = np.random.default_rng(0)
    ages = random.normal(40, 10, 5000).astype(np.float32)
    ages[::5] = np.nan
    price = Number("price")
    inputs = {"age": {**histogram(ages), "missing": 0.2}, "size": histogram(ages)}
    drift = Drift({"inputs": inputs, **price.baseline(ages)}, ["age", "size"], price)
    drift.add_inputs([ages[:HALF], ages[1 : HALF + 1]])
    assert drift.psi()["input.age"] < STABLE
    for _ in range(2):
        drift.add_inputs([np.where(np.arange(HALF) % 2, ages[:HALF], np.float32(np.nan)), ages[:HALF]])
    assert drift.psi()["input.age"] > SHIFTED


def test_lists_are_watched_by_their_items_and_by_their_lengths_and_not_by_what_fills_them_up() -> None:
    random = np.random.default_rng(0)
    counts, most = 1 + np.arange(5000) % 4, 20
    strokes = random.normal(5, 1, (5000, most, 2)).astype(np.float32)
    strokes[np.arange(most) >= counts[:, np.newaxis]] = 0
    price, length = Number("price"), Length(1, most)
    items = strokes[length.held(strokes)]
    known = {"inputs": {"strokes": histogram(items)}, "lengths": {"strokes": histogram(counts)}}
    drift = Drift({**known, **price.baseline(counts.astype(np.float32))}, ["strokes"], price, {"strokes": length})
    drift.add_inputs([strokes[:HALF]])
    assert drift.psi()["input.strokes"] < STABLE
    assert drift.psi()["length.strokes"] < STABLE
    for _ in range(2):
        drift.add_inputs([np.full((HALF, most, 2), 5, np.float32)])
    assert drift.psi()["length.strokes"] > SHIFTED


def test_values_are_watched_by_the_bins_that_the_test_split_had() -> None:
    price = Number("price")
    said = np.random.default_rng(0).normal(100, 20, 5000).astype(np.float32)
    drift = Drift({"inputs": {}, **price.baseline(said)}, [], price)
    drift.add_predictions(price.signals(said[:HALF]))
    assert drift.psi()["values"] < STABLE
    for _ in range(2):
        drift.add_predictions(price.signals(np.append(said[: HALF - 1] + 20, np.float32(np.nan))))
        drift.add_predictions(price.signals(said[:1] + 20))
    assert drift.psi()["values"] > SHIFTED


def test_tags_are_watched_by_how_often_each_is_said() -> None:
    traits = Tags("traits", ("even", "prime", "loop"), (0.5, 0.5, 0.5))
    said = np.random.default_rng(0).random((5000, 3)).astype(np.float32)
    drift = Drift({"inputs": {}, **traits.baseline(said)}, [], traits)
    drift.add_predictions(traits.signals(said[: 2 * HALF]))
    assert drift.psi()["tags"] < STABLE
    fewer = said * np.array([1, 1, 0.2], np.float32)
    for _ in range(4):
        drift.add_predictions(traits.signals(fewer[: 2 * HALF]))
    assert drift.psi()["tags"] > SHIFTED


def test_vectors_are_watched_by_how_near_they_are_to_the_mean_one() -> None:
    generator = np.random.default_rng(0)
    said = (generator.normal(0, 1, (5000, 8)) + np.eye(8)[0]).astype(np.float32)
    person = Vector("person", 8).decided(np.array([b"a", b"b"] * 2500), said)
    drift = Drift({"inputs": {}, **person.baseline(said)}, [], person)
    drift.add_predictions(person.signals(said[: 2 * HALF]))
    assert drift.psi()["similarity"] < STABLE
    turned = np.append(said[: HALF - 1] - np.float32(2) * np.eye(8, dtype=np.float32)[0], np.zeros((1, 8)), axis=0)
    for _ in range(4):
        drift.add_predictions(person.signals(turned))
        drift.add_predictions(person.signals(turned[:1]))
    assert drift.psi()["similarity"] > SHIFTED
