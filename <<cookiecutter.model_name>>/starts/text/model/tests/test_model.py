"""The team's own tests: what this model promises beyond what every model has to do. `nox -s tests` runs them."""

import keras
import numpy as np
import pytest

import model


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """The network before training, which knows three letters."""
    built = model.build(model.Hyperparameters())
    built.get_layer("vocabulary").set_vocabulary(["a", "e", "n"])
    return built


def test_gives_one_probability_for_each_label_whatever_the_text(network: keras.Model) -> None:
    texts = np.array(["Save and continue", "Zapisz", "\N{GRINNING FACE}", ""], object)
    probabilities = network.predict({"text": texts}, verbose=0)
    assert probabilities.shape == (4, len(model.LABELS))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_more_pieces_make_a_larger_network(network: keras.Model) -> None:
    larger = model.build(model.Hyperparameters(pieces=5000))
    assert larger.count_params() > network.count_params()


def test_a_record_holds_a_text_and_one_of_the_labels() -> None:
    assert model.RECORD["required"] == ["text", "label"]
    assert model.RECORD["properties"]["label"]["enum"] == list(model.LABELS)
