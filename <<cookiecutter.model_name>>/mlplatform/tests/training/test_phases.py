"""What `model.phases` may return; what it may not is refused before the training, and says what would do."""

from typing import Any

import keras
import numpy as np
import pytest

import model
from mlplatform.contract.errors import PipelineError
from mlplatform.contract.parameters import TrainingParameters
from mlplatform.training.phases import WHOLE, Phase, phases_of


@pytest.fixture
def parameters(monkeypatch: pytest.MonkeyPatch) -> TrainingParameters:
    """Those of a model without hyperparameters."""
    monkeypatch.setattr("mlplatform.training.phases.hyperparameters", lambda _: None)
    return TrainingParameters(epochs=7)


def phases(returned: Any, parameters: TrainingParameters, monkeypatch: pytest.MonkeyPatch) -> tuple[Phase, ...]:
    monkeypatch.setattr(model, "phases", lambda *_: returned, raising=False)
    return phases_of(model, parameters, keras.Sequential())


def test_without_phases_the_whole_training_is_one(parameters: TrainingParameters) -> None:
    assert phases_of(model, parameters, keras.Sequential()) == WHOLE
    assert WHOLE[0].length(parameters) == 7


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        (None, r"it returns None; return a list of Phase\(name, prepare, epochs\)"),
        ([], r"it returns \[\]; return a list of Phase"),
        (["head"], r"it returns \['head'\]; return a list of Phase"),
        ([Phase("head"), Phase("head")], r"two phases are called 'head'; rename one"),
        ([Phase("head", epochs=0)], r"phase 'head' has epochs = 0; give at least 1, or leave the phase out"),
        ([Phase("head", epochs=1.5)], r"phase 'head' has epochs = 1\.5; give at least 1"),  # type: ignore[arg-type]
        (
            [Phase("head", callbacks=["stop"])],
            r"phase 'head' has callbacks = \['stop'\]; give a list of Keras's callbacks",
        ),
    ],
)
def test_what_is_no_list_of_phases_is_refused(
    returned: Any, sentence: str, parameters: TrainingParameters, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PipelineError, match=rf"^model\.phases: {sentence}"):
        phases(returned, parameters, monkeypatch)


def test_an_error_of_the_teams_code_is_named() -> None:
    def prepare(network: keras.Model) -> None:
        network.get_layer("base").trainable = False

    with pytest.raises(PipelineError, match=r"model\.phases: phase 'head' raises ValueError: No such layer: base"):
        Phase("head", prepare).begin(keras.Sequential())


@pytest.mark.parametrize("given", [[1.0], np.ones((2, 1)), [1.0, -1.0], [1.0, np.nan]])
def test_weights_are_one_number_for_each_example(given: Any) -> None:
    with pytest.raises(
        PipelineError, match=r"weigh of phase 'head' gives values of shape \(.*\) for 2 examples; it mu"
    ):
        Phase("head", weigh=lambda _: given).weights(np.array([0, 1]))
