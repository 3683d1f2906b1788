"""The training's parameters, as delivery takes them: where TensorFlow is not installed, too."""

import os
import re
import subprocess
import sys

import pytest

from mlplatform.config.settings import SettingsError, load
from mlplatform.contract.parameters import TrainingParameters, parameters_type
from mlplatform.delivery.jobs.parameters import given
from mlplatform.tests.conftest import ROOT
from mlplatform.tests.delivery.conftest import Repository

# The packages that the delivery environment does not have, in a process that has them.
WITHOUT_TENSORFLOW = """
import sys
sys.modules |= {"tensorflow": None, "keras": None}
from mlplatform.cli import main
sys.exit(main(sys.argv[1:]))
"""
HYPERPARAMETERS = """
from dataclasses import dataclass, field

FILTERS = 48

@dataclass(frozen=True)
class Hyperparameters:
    learning_rate: float = 0.01
    filters: int = field(default=FILTERS, metadata={"ge": 1, "le": 2 * FILTERS, "description": "filters"})
"""
# As models were before: whoever imports the hyperparameters imports Keras.
OLD_MODEL = {
    "__init__.py": "from model.network import Hyperparameters\n",
    "network.py": f"import keras\n{HYPERPARAMETERS}",
}
NEW_MODEL = {
    "__init__.py": "from model.hyperparameters import Hyperparameters\n",
    "hyperparameters.py": HYPERPARAMETERS,
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": "0"}, "training.epochs = '0' (argument): input should be greater than or equal to 1"),
        ({"epochs": "many"}, "training.epochs = 'many' (argument): input should be a valid integer"),
        ({"seed": "2147483648"}, "training.seed = '2147483648' (argument): input should be less than or equal to"),
        ({"precision": "double"}, "input should be 'float32', 'mixed_float16' or 'mixed_bfloat16'"),
        ({"dataset": "x"}, "training.dataset = 'x' (argument): string should match pattern"),
        ({"validation_fraction": "0.45", "test_fraction": "0.45"}, "must leave at least 0.2 for training"),
    ],
)
def test_wrong_ones_are_refused_in_the_words_of_the_pipeline(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        given(parameters_type(), arguments)
    assert message in str(error.value)


def test_the_environment_gives_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINING_EPOCHS", "3")
    monkeypatch.setenv("TRAINING_SEED", "")
    assert given(parameters_type(), {"batch_size": "64"}) == {"epochs": "3", "batch_size": "64"}
    monkeypatch.setenv("TRAINING_EPOCH", "3")
    with pytest.raises(SettingsError, match="environment variable TRAINING_EPOCH: no such setting"):
        given(parameters_type(), {})


def run(repository: Repository, model: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """A delivery command in a repository with this model, where TensorFlow is not installed."""
    for path in (repository.path / "model").glob("*.py"):
        path.unlink()
    for name, text in model.items():
        (repository.path / "model" / name).write_text(text)
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, *arguments],
        cwd=repository.path,
        env={**os.environ, "PYTHONPATH": str(repository.path)},
        capture_output=True,
        text=True,
    )


class TestWithoutTensorFlow:
    """`train` and `gate` in the delivery environment."""

    def test_a_default_that_is_a_named_constant_is_read(self, repository: Repository) -> None:
        done = run(repository, NEW_MODEL, "submit", "--help")
        assert done.returncode == 0, done.stderr
        assert re.search(r"--filters N\s+filters\s+\[default: 48\]", done.stdout)

    def test_a_bound_that_is_computed_is_checked(self, repository: Repository) -> None:
        done = run(repository, NEW_MODEL, "submit", "--filters", "97")
        assert done.returncode == 2
        assert "training.filters = '97' (argument): input should be less than or equal to 96" in done.stderr

    def test_the_gate_takes_its_thresholds_from_the_same_parameters(self, repository: Repository) -> None:
        repository.publish("one", metrics={"accuracy": 0.8, "examples": 10, "invalid": 0, "export_difference": 0.0})
        for model in (NEW_MODEL, OLD_MODEL):
            done = run(repository, model, "gate", "one")
            assert done.returncode == 4, done.stderr
            assert "accuracy 0.8000 on the test split is below minimum 0.9 of [gate.accuracy]" in done.stderr

    def test_a_model_that_imports_keras_leaves_its_hyperparameters_to_the_job(self, repository: Repository) -> None:
        bounds = run(repository, OLD_MODEL, "submit", "--filters", "97", "--epochs", "0")
        assert bounds.returncode == 2
        assert "filters" not in bounds.stderr
        assert "training.epochs = '0' (argument): input should be greater than or equal to 1" in bounds.stderr

    def test_what_is_no_option_is_still_refused(self, repository: Repository) -> None:
        for arguments in (("--filters",), ("more",), ("--filters", "1", "more")):
            done = run(repository, OLD_MODEL, "submit", *arguments)
            assert done.returncode == 2
            assert "No such option" in done.stderr

    def test_a_field_without_a_default_is_named(self, repository: Repository) -> None:
        model = {**NEW_MODEL, "hyperparameters.py": HYPERPARAMETERS.replace("float = 0.01", "float")}
        done = run(repository, model, "submit")
        assert done.returncode == 2
        lack = "model.Hyperparameters.learning_rate has no default"
        assert done.stderr == f"{lack}; give it one: learning_rate: float = field(default=...)\n"

    def test_without_a_model_it_says_where_to_run(self, repository: Repository) -> None:
        done = run(repository, {"__init__.py": "from model.network import Hyperparameters\n"}, "submit")
        assert done.returncode == 1
        assert done.stderr == "submit: No module named 'model.network'; run from the repository's root\n"


def test_importing_the_parameters_loads_no_tensorflow(repository: Repository) -> None:
    for path in (repository.path / "model").glob("*.py"):
        path.unlink()
    for name, text in NEW_MODEL.items():
        (repository.path / "model" / name).write_text(text)
    done = subprocess.run(
        [
            *(sys.executable, "-X", "importtime", "-c"),
            "from mlplatform.contract.parameters import load_parameters; print(load_parameters({}).filters)",
        ],
        cwd=repository.path,
        env={**os.environ, "PYTHONPATH": str(repository.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert done.stdout == "48\n"
    assert {"pydantic", "model"} <= imported
    assert not imported & {"tensorflow", "keras", "numpy", "luigi"}


def forms() -> dict[str, str]:
    """What the Jenkinsfile allows for each parameter of the job, as a regular expression."""
    return dict(re.findall(r"^        ([A-Z_]+): /(.*)/,$", (ROOT / "Jenkinsfile").read_text(encoding="utf-8"), re.M))


@pytest.mark.parametrize("name", ["epochs", "batch_size"])
def test_jenkins_allows_the_numbers_that_the_training_takes(name: str) -> None:
    bounds = {type(bound).__name__: bound for bound in TrainingParameters.model_fields[name].metadata}
    low, high = bounds["Ge"].ge, bounds["Le"].le
    form = re.compile(forms()[name.upper()])
    allowed = {number for number in range(low - 2, 2 * high) if form.fullmatch(str(number))}
    assert allowed == set(range(low, high + 1))


@pytest.mark.parametrize("dataset", ["", "0123456789ab", "0123456789AB", "0123456789a", "0123456789abc", "x"])
def test_jenkins_allows_the_dataset_versions_that_the_training_takes(dataset: str) -> None:
    try:
        load(TrainingParameters, {"dataset": dataset})
        taken = True
    except SettingsError:
        taken = False
    assert bool(re.fullmatch(forms()["DATASET"], dataset)) is taken


@pytest.mark.parametrize("name", sorted(TrainingParameters.model_fields))
def test_jenkins_takes_every_other_parameter_by_its_option(name: str) -> None:
    assert re.fullmatch(forms()["OTHER_PARAMETERS"].replace(r"\/", "/"), f"--{name.replace('_', '-')} 1")


def test_jenkins_takes_a_hyperparameter_with_a_digit_in_its_name() -> None:
    assert re.fullmatch(forms()["OTHER_PARAMETERS"].replace(r"\/", "/"), "--units-2 64")
