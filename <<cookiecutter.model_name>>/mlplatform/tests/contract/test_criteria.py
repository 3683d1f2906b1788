"""The tables [gate.METRIC]: what they may ask for, their other names, and the sentence for each that cannot apply."""

import logging
from pathlib import Path

import pytest

from mlplatform.config.settings import SettingsError
from mlplatform.contract.criteria import Criteria, Criterion, load_criteria
from mlplatform.contract.parameters import PipelineParameters, criteria_of
from mlplatform.contract.targets import Classes, Number

LABELS = ("no", "fraud")


@pytest.fixture
def service_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "service.toml"
    monkeypatch.setenv("SERVICE_TOML", "service.toml")
    monkeypatch.chdir(tmp_path)
    path.write_text('[service]\nname = "under-test"\n')
    return path


def test_without_tables_accuracy_is_asked_for(service_toml: Path) -> None:
    assert load_criteria().rows == (Criterion("accuracy", minimum=0.9, maximum_regression=0.01),)


def test_tables_replace_what_is_asked_for_without_them(service_toml: Path) -> None:
    service_toml.write_text(
        "[gate.macro_f1]\nminimum = 0.85\nmaximum_regression = 0.01\n[gate.log_loss]\nmaximum = 0.4\n"
        "[gate.recall.fraud]\nminimum = 0.7\n"
    )
    assert load_criteria().rows == (
        Criterion("macro_f1", minimum=0.85, maximum_regression=0.01),
        Criterion("log_loss", maximum=0.4),
        Criterion("recall.fraud", minimum=0.7),
    )


@pytest.mark.parametrize(
    ("given", "metric"),
    [
        ("sparse_categorical_accuracy", "accuracy"),
        ("f1_macro", "macro_f1"),
        ("f1_weighted", "weighted_f1"),
        ("balanced_accuracy_score", "balanced_accuracy"),
        ("AUC", "roc_auc"),
    ],
)
def test_metrics_go_by_the_names_of_keras_and_scikit_learn(service_toml: Path, given: str, metric: str) -> None:
    service_toml.write_text(f"[gate.{given}]\nminimum = 0.5\n")
    assert load_criteria().rows == (Criterion(metric, minimum=0.5),)


def test_the_environment_overrides_a_table(service_toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service_toml.write_text("[gate.accuracy]\nminimum = 0.9\nmaximum_regression = 0.02\n")
    monkeypatch.setenv("GATE_ACCURACY_MINIMUM", "0.8")
    monkeypatch.setenv("GATE_SERVICE_HOST", "10.0.0.1")
    assert load_criteria().rows == (Criterion("accuracy", minimum=0.8, maximum_regression=0.02),)


def test_minimum_accuracy_is_still_taken_with_a_warning(service_toml: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = criteria_of(PipelineParameters(minimum_accuracy=0.7))
    assert found.rows == (Criterion("accuracy", minimum=0.7, maximum_regression=0.01),)
    assert caplog.messages == [
        "minimum_accuracy of [training] is minimum of [gate.accuracy] now, and taken as that; change it there"
    ]


@pytest.mark.parametrize(
    ("toml", "sentence"),
    [
        ("[gate.acuracy]\nminimum = 0.9", "[gate.acuracy] (service.toml): no such metric; did you mean accuracy?"),
        (
            "[gate.xyz]\nminimum = 0.9",
            "[gate.xyz] (service.toml): no such metric; there are: accuracy, balanced_accuracy, macro_precision, "
            "macro_recall, macro_f1, weighted_precision, weighted_f1, matthews_corrcoef, precision, recall, f1, "
            "roc_auc, average_precision, log_loss, brier_score, micro_f1, subset_accuracy, hamming_loss, "
            "quadratic_kappa, mean_level_error, mean_absolute_error, median_absolute_error, mean_squared_error, "
            "root_mean_squared_error, r2_score, equal_error_rate, true_accept_rate",
        ),
        (
            "[gate.log_loss]\nminimum = 0.9",
            "[gate.log_loss] (service.toml): of log_loss less is better; ask for a maximum",
        ),
        (
            "[gate.accuracy]\nmaximum = 0.9",
            "[gate.accuracy] (service.toml): of accuracy more is better; ask for a minimum",
        ),
        (
            "[gate.accuracy]\nminimum = 90",
            "[gate.accuracy] (service.toml): minimum = 90 must be between 0 and 1",
        ),
        ('[gate.accuracy]\nminimum = "x"', "[gate.accuracy] (service.toml): minimum = 'x' must be a number"),
        (
            "[gate.accuracy]\nmaximum_regression = -1",
            "[gate.accuracy] (service.toml): maximum_regression = -1 must be 0 or more",
        ),
        (
            "[gate.accuracy]\nleast = 0.9",
            "[gate.accuracy] (service.toml): least is none of minimum, maximum_regression",
        ),
        (
            "[gate.accuracy]",
            "[gate.accuracy] (service.toml): it asks for nothing; give it minimum or maximum_regression",
        ),
        (
            "[gate.accuracy.fraud]\nminimum = 0.9",
            "[gate.accuracy.fraud]: accuracy is of all classes together; there is [gate.accuracy]",
        ),
        ("[gate]\naccuracy = 0.9", "gate.accuracy = 0.9 (service.toml): it must be a table, [gate.accuracy]"),
        (
            '[gate]\nabsent_labels = "owl"',
            "gate.absent_labels = 'owl' (service.toml): it must be a list of labels, [\"owl\"]",
        ),
        ("[gate]\ncost_of_miss = 0", "gate.cost_of_miss = 0 (service.toml): it must be a number above 0"),
    ],
)
def test_a_table_that_cannot_apply_is_refused_in_one_sentence(service_toml: Path, toml: str, sentence: str) -> None:
    service_toml.write_text(toml)
    with pytest.raises(SettingsError) as refused:
        load_criteria()
    assert str(refused.value) == sentence


def test_a_wrong_variable_is_refused_by_its_name(service_toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATE_ACURACY_MINIMUM", "0.8")
    monkeypatch.setenv("GATE_ACCURACY_MINIMUM", "much")
    with pytest.raises(SettingsError) as refused:
        load_criteria()
    assert str(refused.value).splitlines() == [
        "environment variable GATE_ACCURACY_MINIMUM = 'much': minimum = 'much' must be a number",
        "environment variable GATE_ACURACY_MINIMUM: no such metric; did you mean accuracy?",
    ]


@pytest.mark.parametrize(
    ("criteria", "sentence"),
    [
        (
            Criteria((Criterion("recall.frod", minimum=0.5),)),
            "[gate.recall.frod]: the model has no label 'frod'; did you mean 'fraud'?",
        ),
        (
            Criteria((Criterion("recall.x", minimum=0.5),)),
            "[gate.recall.x]: the model has no label 'x'; it has: no, fraud",
        ),
        (Criteria(absent_labels=("owl",)), "gate.absent_labels: the model has no label 'owl'; it has: no, fraud"),
    ],
)
def test_a_label_that_the_model_does_not_have_is_refused(criteria: Criteria, sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Classes("label", LABELS).fitted(criteria)
    assert str(refused.value) == sentence


def test_only_a_minimum_of_zero_asks_for_nothing() -> None:
    assert Criteria((Criterion("accuracy", minimum=0.0, maximum_regression=0.01),)).asks_nothing
    assert not Criteria((Criterion("accuracy", maximum_regression=0.01),)).asks_nothing
    assert not Criteria((Criterion("accuracy", minimum=0.0), Criterion("recall.fraud", minimum=0.5))).asks_nothing


def test_a_table_about_another_kind_of_target_is_refused_with_what_would_do() -> None:
    with pytest.raises(SettingsError) as refused:
        Number("price").fitted(Criteria())
    assert str(refused.value) == (
        "[gate.accuracy]: target 'price' of model.TARGETS is of kind 'number', which has no accuracy; ask for "
        "[gate.r2_score] minimum = ..., or by another of: mean_absolute_error, median_absolute_error, "
        "mean_squared_error, root_mean_squared_error, r2_score"
    )


def test_without_tables_each_kind_of_target_has_its_own(service_toml: Path) -> None:
    assert Number("price").fitted(load_criteria()).rows == (
        Criterion("r2_score", minimum=0.0, maximum_regression=0.02),
    )
    assert Classes("label", LABELS).fitted(load_criteria()).rows == Criteria().rows


def test_errors_are_asked_for_by_a_maximum_in_the_units_of_the_target(service_toml: Path) -> None:
    service_toml.write_text("[gate.mae]\nmaximum = 12.5\nmaximum_regression = 0.5\n")
    assert Number("price").fitted(load_criteria()).rows == (
        Criterion("mean_absolute_error", maximum=12.5, maximum_regression=0.5),
    )


def test_a_bound_that_every_model_reaches_is_no_number_in_json() -> None:
    open_gate = Criteria((Criterion("r2_score", minimum=float("-inf")), Criterion("log_loss", maximum=float("inf"))))
    assert open_gate.asks_nothing
    assert open_gate.to_json()["criteria"] == {"r2_score": {}, "log_loss": {}}
