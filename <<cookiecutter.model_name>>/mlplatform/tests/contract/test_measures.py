"""The metrics that models are judged by: scikit-learn's figures, with weights, and intervals that hold the truth."""

import math

import numpy as np
import pytest
from sklearn import metrics as scikit

from mlplatform.contract.metrics import METRICS, split_name
from mlplatform.contract.resampling import changes
from mlplatform.contract.targets import class_measures
from mlplatform.contract.targets.class_measures import Sample, Weighted, most_frequent, sample, value

TWO, THREE = ("no", "yes"), ("cat", "dog", "owl")


def made_up(labels: tuple[str, ...], rows: int = 300) -> tuple[Sample, np.ndarray]:
    """Predictions that are right more often than not, some of them tied, and a weight for each row."""
    generator = np.random.default_rng(7)
    true = generator.choice(len(labels), rows, p=np.arange(len(labels), 0, -1) / sum(range(len(labels) + 1)))
    probabilities = generator.dirichlet(np.ones(len(labels)), rows) + 0.3 * np.eye(len(labels))[true]
    probabilities = np.round(probabilities / probabilities.sum(axis=1, keepdims=True), 1)
    probabilities[:, 0] += 1 - probabilities.sum(axis=1)
    weights = generator.integers(0, 4, rows).astype(float)
    return sample(labels, true.astype(np.int32), np.clip(probabilities, 0, 1).astype(np.float32)), weights


def by_scikit(name: str, of: Sample, weights: np.ndarray) -> float:
    """The same metric by scikit-learn."""
    true, said, probabilities = of.true, of.predicted, of.of_every_class()
    options = {"sample_weight": weights}
    metric, label = split_name(name)
    if label is not None:
        place = of.labels.index(label)
        if metric in ("roc_auc", "average_precision"):
            score = getattr(scikit, f"{metric}_score")
            return float(score(true == place, probabilities[:, place], **options))
        score = getattr(scikit, f"{metric}_score")
        return float(score(true, said, labels=[place], average="macro", zero_division=np.nan, **options))
    if metric in ("roc_auc", "average_precision"):
        if len(of.labels) == 2:
            return by_scikit(f"{metric}.{of.labels[1]}", of, weights)
        return float(np.mean([by_scikit(f"{metric}.{label}", of, weights) for label in of.labels]))
    if metric in ("log_loss", "brier_score"):
        if metric == "log_loss":
            clipped = np.clip(probabilities, np.finfo(np.float32).eps, 1)
            return float(scikit.log_loss(true, clipped / clipped.sum(axis=1, keepdims=True), **options))
        probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
        given = probabilities[:, 1] if len(of.labels) == 2 else probabilities
        return float(scikit.brier_score_loss(true, given, **options))
    if metric == "matthews_corrcoef":
        return float(scikit.matthews_corrcoef(true, said, **options))
    if "_" in metric and metric.partition("_")[0] in ("macro", "weighted"):
        average, _, base = metric.partition("_")
        score = getattr(scikit, f"{base}_score")
        return float(score(true, said, average=average, zero_division=0, **options))
    return float(getattr(scikit, f"{metric}_score")(true, said, **options))


NAMES = [name for name, facts in METRICS.items() if "classes" in facts.kinds and facts.whole]
NAMES_OF_CLASSES = [name for name, facts in METRICS.items() if facts.of_class]


@pytest.mark.parametrize("labels", [TWO, THREE])
@pytest.mark.parametrize("name", NAMES)
def test_metrics_are_scikit_learns(name: str, labels: tuple[str, ...]) -> None:
    made, weights = made_up(labels)
    for given in (np.ones(len(made)), weights):
        tolerance = 1e-5 if name == "log_loss" else 1e-7
        assert value(Weighted(made, given), name) == pytest.approx(by_scikit(name, made, given), abs=tolerance)


@pytest.mark.parametrize("name", NAMES_OF_CLASSES)
def test_metrics_of_one_class_are_scikit_learns(name: str) -> None:
    made, weights = made_up(THREE)
    for label in THREE:
        found = value(Weighted(made, weights), f"{name}.{label}")
        assert found == pytest.approx(by_scikit(f"{name}.{label}", made, weights), abs=1e-9)


def test_a_class_without_rows_has_no_recall_and_no_part_in_the_means() -> None:
    of = Sample(THREE, np.array([0, 1]), np.array([0, 1]))
    assert math.isnan(value(Weighted(of), "recall.owl"))
    assert value(Weighted(of), "balanced_accuracy") == value(Weighted(of), "macro_f1") == 1.0


def test_a_row_without_a_valid_prediction_is_never_right() -> None:
    of = sample(TWO, np.array([0, 0], np.int32), np.array([[1, 0], [np.nan, 0]], np.float32))
    assert of.predicted.tolist() == [0, -1]
    assert value(Weighted(of), "accuracy") == 0.5
    assert value(Weighted(of), "precision.no") == 1.0


def test_only_labels_leave_out_what_takes_probabilities() -> None:
    found = class_measures.listed(Sample(TWO, np.array([0, 1]), np.array([0, 1])))
    assert "macro_f1" in found
    assert not {"roc_auc", "log_loss"} & found.keys()


def test_always_the_most_frequent_label_is_right_as_often_as_it_comes_and_knows_nothing_else() -> None:
    made, _ = made_up(TWO)
    constant = Weighted(most_frequent(made))
    assert value(constant, "accuracy") == made.counts.max() / len(made)
    assert (value(constant, "roc_auc"), value(constant, "balanced_accuracy")) == (0.5, 0.5)


def test_the_same_answers_have_no_difference_and_no_interval() -> None:
    made, _ = made_up(THREE)
    (change,) = changes(made, made, ["macro_f1"]).values()
    assert (change.model, change.low, change.high) == (change.other, 0, 0)


def test_a_difference_lies_in_its_interval_about_as_often_as_said() -> None:
    generator = np.random.default_rng(7)
    covered = 0
    for _ in range(40):
        true = generator.integers(0, 2, 400)
        one, other = (np.where(generator.random(400) < right, true, 1 - true) for right in (0.9, 0.8))
        change = changes(Sample(TWO, true, one), Sample(TWO, true, other), ["balanced_accuracy"])["balanced_accuracy"]
        covered += change.low <= 0.1 <= change.high
        assert change.loss < 0
        assert -change.high <= change.loss <= -change.low
    assert covered >= 32


def test_a_loss_is_worse_in_the_direction_of_its_metric() -> None:
    true = np.array([0, 1] * 50, np.int32)
    sure, unsure = (
        sample(TWO, true, np.where(np.eye(2, dtype=bool)[true], p, 1 - p).astype(np.float32)) for p in (0.9, 0.6)
    )
    found = changes(unsure, sure, ["log_loss", "accuracy"])
    assert found["log_loss"].loss == pytest.approx(np.log(0.9) - np.log(0.6), abs=1e-6)
    assert found["log_loss"].least_loss > 0
    assert found["accuracy"].loss == 0
