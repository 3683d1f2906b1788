"""The team's own tests: what this model promises beyond what every model has to do. `nox -s tests` runs them."""

import keras
import numpy as np
import pytest

import model


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """The network before training."""
    return model.build(model.Hyperparameters())


def test_gives_one_probability_for_each_label(network: keras.Model) -> None:
    images = np.random.default_rng(0).uniform(0, 16, (3, 8, 8)).astype(np.float32)
    probabilities = network.predict({"image": images}, verbose=0)
    assert probabilities.shape == (3, len(model.LABELS))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_more_filters_make_a_larger_network(network: keras.Model) -> None:
    larger = model.build(model.Hyperparameters(filters=64))
    assert larger.count_params() > network.count_params()


def test_a_record_holds_an_image_of_eight_by_eight_and_one_of_the_labels() -> None:
    image = model.RECORD["properties"]["image"]
    assert (image["minItems"], image["items"]["maxItems"]) == (8, 8)
    assert model.RECORD["properties"]["label"]["enum"] == list(model.LABELS)
