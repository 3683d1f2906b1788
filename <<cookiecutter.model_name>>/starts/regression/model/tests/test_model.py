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


def test_starts_from_about_the_mean_for_an_average_patient(network: keras.Model) -> None:
    average = {name: np.array([mean]) for name, (mean, _) in MEASUREMENTS.items()}
    progression = network.predict(average, verbose=0)
    assert progression.shape == (1, 1)
    assert progression[0, 0] == pytest.approx(152, abs=1)


def test_more_units_make_a_larger_network(network: keras.Model) -> None:
    larger = model.build(model.Hyperparameters(units=64))
    assert larger.count_params() > network.count_params()


def test_a_record_holds_every_measurement_and_what_is_learned() -> None:
    (target,) = model.TARGETS
    assert model.RECORD["required"] == [*MEASUREMENTS, target.name]
