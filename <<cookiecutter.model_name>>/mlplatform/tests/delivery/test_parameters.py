"""The training's parameters, read from its code without running it."""

from pathlib import Path

import pytest

from mlplatform.config.settings import SettingsError
from mlplatform.delivery.jobs.parameters import given, read_parameters
from mlplatform.tests.conftest import ROOT
from mlplatform.training.parameters import parameters_type


def test_they_are_those_that_the_pipeline_takes() -> None:
    wanted = {name: field.default for name, field in parameters_type().model_fields.items()}
    assert {each.name: each.default for each in read_parameters(ROOT)} == wanted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": "0"}, "training.epochs = '0' (argument): input should be greater than or equal to 1"),
        ({"epochs": "many"}, "training.epochs = 'many' (argument): input should be a valid integer"),
        ({"seed": "2147483648"}, "training.seed = '2147483648' (argument): input should be less than or equal to"),
        ({"precision": "double"}, "input should be 'float32', 'mixed_float16' or 'mixed_bfloat16'"),
        ({"dataset": "x"}, "training.dataset = 'x' (argument): string should match pattern"),
    ],
)
def test_wrong_ones_are_said_as_the_pipeline_says_them(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        given(read_parameters(ROOT), arguments)
    assert message in str(error.value)


def test_the_environment_gives_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINING_EPOCHS", "3")
    monkeypatch.setenv("TRAINING_SEED", "")
    assert given(read_parameters(ROOT), {"batch_size": "64"}) == {"epochs": "3", "batch_size": "64"}
    monkeypatch.setenv("TRAINING_EPOCH", "3")
    with pytest.raises(SettingsError, match="environment variable TRAINING_EPOCH: no such setting"):
        given(read_parameters(ROOT), {})


def test_what_cannot_be_read_is_left_to_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "service.toml").touch()
    monkeypatch.chdir(tmp_path)
    for folder, name in (("mlplatform/training", "TrainingParameters"), ("model", "Hyperparameters")):
        (tmp_path / folder).mkdir(parents=True)
        field = f"{Path(folder).name}_x"
        (tmp_path / folder / "x.py").write_text(f"class {name}:\n    {field}: Number = compute()\n")
    found = given(read_parameters(tmp_path), {"training_x": "anything"})
    assert found == {"training_x": "anything"}
