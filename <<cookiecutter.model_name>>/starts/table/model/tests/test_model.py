"""The team's own tests: what this model promises beyond what every model has to do. `nox -s tests` runs them."""

import keras
import numpy as np
import pytest

import model
from model.dataset import MEASUREMENTS


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """The network before training."""
    return model.build(model.Hyperparameters())


def test_gives_one_probability_for_each_label(network: keras.Model) -> None:
    analyses = {name: np.array([mean, mean + deviation, 0]) for name, (mean, deviation) in MEASUREMENTS.items()}
    probabilities = network.predict(analyses, verbose=0)
    assert probabilities.shape == (3, len(model.LABELS))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_more_units_make_a_larger_network(network: keras.Model) -> None:
    larger = model.build(model.Hyperparameters(units=64))
    assert larger.count_params() > network.count_params()


def test_a_record_holds_every_measurement_and_one_of_the_labels() -> None:
    assert model.RECORD["required"] == [*MEASUREMENTS, "label"]
    assert model.RECORD["properties"]["label"]["enum"] == list(model.LABELS)
