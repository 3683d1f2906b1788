"""Metrics: figures that can be counted by hand from a few predictions, and a baseline that later traffic is held to."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlplatform.contract.comparison import proportion_interval
from mlplatform.contract.drift import histogram
from mlplatform.contract.targets import Classes
from mlplatform.contract.targets.class_measures import calibration
from mlplatform.data.dataset import InputSpec
from mlplatform.tests.training.splits import split
from mlplatform.training.baseline import baseline
from mlplatform.training.evaluation import inference_ms
from mlplatform.training.report_classes import mistakes

CAT, DOG, OWL = range(3)
NAMES = ("cat", "dog", "owl")
TARGET = Classes("label", NAMES)


def sure_of(*predicted: int, confidence: float = 0.8, classes: int = 3) -> NDArray[np.float32]:
    """A row of probabilities per example: `confidence` for the predicted class, the rest shared by the others."""
    rows = np.full((len(predicted), classes), (1 - confidence) / (classes - 1), np.float32)
    rows[np.arange(len(predicted)), list(predicted)] = confidence
    return rows


def labels(*true: int) -> NDArray[np.int32]:
    return np.array(true, np.int32)


def metrics(predictions: NDArray[np.float32], true: NDArray[np.int32]) -> dict[str, Any]:
    return TARGET.metrics(TARGET.rows(true, predictions))


def shown(figures: dict[str, Any]) -> tuple[Any, ...]:
    """Figures of a class that can be counted by hand."""
    return tuple(figures[name] for name in ("examples", "precision", "recall", "f1"))


def test_figures_follow_from_the_confusion() -> None:
    # Of four cats three are found, one is called a dog; both dogs are found.
    found = metrics(sure_of(CAT, CAT, CAT, DOG, DOG, DOG), labels(CAT, CAT, CAT, CAT, DOG, DOG))
    assert (found["examples"], found["correct"], found["accuracy"]) == (6, 5, 5 / 6)
    assert found["confusion"] == [[3, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert shown(found["classes"]["cat"]) == (4, 1.0, 0.75, 6 / 7)
    assert shown(found["classes"]["dog"]) == (2, 2 / 3, 1.0, 0.8)
    assert found["balanced_accuracy"] == (0.75 + 1) / 2


def test_a_class_that_does_not_occur_has_no_figures_and_no_part_in_the_mean() -> None:
    found = metrics(sure_of(CAT, DOG), labels(CAT, DOG))
    assert shown(found["classes"]["owl"]) == (0, None, None, None)
    assert found["macro_f1"] == 1.0


def test_a_class_that_is_never_said_has_no_precision_and_an_f1_of_zero() -> None:
    found = metrics(sure_of(CAT, CAT), labels(CAT, OWL))
    assert shown(found["classes"]["owl"]) == (1, None, 0.0, 0.0)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)


def test_log_loss_is_the_mean_surprise_at_what_is_true() -> None:
    found = metrics(sure_of(CAT, DOG), labels(CAT, CAT))
    assert found["log_loss"] == pytest.approx(-(np.log(0.8) + np.log(0.1)) / 2, abs=1e-6)


def test_certainty_of_what_is_false_is_a_large_loss_and_not_an_infinite_one() -> None:
    found = metrics(sure_of(DOG, confidence=1.0), labels(CAT))
    assert found["log_loss"] == pytest.approx(15.94, abs=0.01)


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [
        # Newcombe (1998), Statistics in Medicine 17, 857, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ],
)
def test_the_interval_is_wilsons(hits: int, total: int, low: float, high: float) -> None:
    found = proportion_interval(hits, total)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)
    assert 0 <= found.low <= hits / total <= found.high <= 1


def test_a_model_that_is_as_often_right_as_it_says_is_calibrated() -> None:
    right = np.arange(10) < 8
    found = calibration(np.full(10, 0.8, np.float32), right)
    assert found["error"] == pytest.approx(0, abs=1e-6)


def test_the_calibration_error_weighs_bins_by_their_examples() -> None:
    # Three at 0.95, all right: 0.05 off. One at 0.6, wrong: 0.6 off.
    found = calibration(np.array([0.95, 0.95, 0.95, 0.6], np.float32), np.array([True, True, True, False]))
    assert found["error"] == pytest.approx(3 / 4 * 0.05 + 1 / 4 * 0.6, abs=1e-6)
    filled = {round(each["from"], 1): each for each in found["bins"] if each["examples"]}
    assert list(filled) == [0.5, 0.9]
    assert (filled[0.9]["examples"], filled[0.9]["accuracy"]) == (3, 1.0)


def test_bins_are_closed_above_and_empty_ones_have_no_figures() -> None:
    found = calibration(np.array([0.7, 1.0], np.float32), np.array([True, True]))["bins"]
    assert [each["examples"] for each in found] == [0, 0, 0, 0, 0, 0, 1, 0, 0, 1]
    assert found[0]["accuracy"] is None
    assert found[0]["confidence"] is None


@pytest.mark.parametrize(
    "row",
    [[np.nan, 0.5, 0.5], [np.inf, 0, 0], [-0.5, 1.0, 0.5], [3.0, 2.0, 1.0]],
    ids=["nan", "inf", "minus", "logits"],
)
def test_what_are_no_probabilities_is_counted_and_never_right(row: list[float]) -> None:
    predictions = np.vstack([sure_of(CAT), np.array([row], np.float32)])
    found = metrics(predictions, labels(CAT, CAT))
    assert (found["invalid"], found["correct"]) == (1, 1)
    json.dumps(found, allow_nan=False)


def test_metrics_are_json_and_the_same_again() -> None:
    generator = np.random.default_rng(0)
    predictions = generator.dirichlet(np.ones(3), 500).astype(np.float32)
    true = generator.integers(0, 3, 500).astype(np.int32)
    once, again = (json.dumps(metrics(predictions, true), allow_nan=False) for _ in range(2))
    assert once == again


def test_the_worst_mistakes_are_those_that_the_model_was_most_sure_of() -> None:
    predictions = np.vstack([sure_of(DOG, confidence=p) for p in (0.6, 0.9, 0.7, 0.99)])
    assert [said.row for said in mistakes(TARGET.rows(labels(CAT, CAT, CAT, DOG), predictions), 2)] == [1, 2]


def test_inference_is_timed_alone_and_in_batches_of_any_split(tmp_path: Path) -> None:
    seen: list[int] = []

    def predict(inputs: Any) -> NDArray[np.float32]:
        seen.append(len(inputs["size"]))
        return np.zeros((1, 3), np.float32)

    found = inference_ms(predict, split(tmp_path, size=np.zeros(5, np.float32)))
    assert set(found) == {"1", "32"}
    assert all(value >= 0 for value in found.values())
    assert set(seen) == {1, 32}


def test_a_histogram_has_bins_of_equally_many_values() -> None:
    found = histogram(np.arange(1, 101))
    assert found["edges"] == [10, 20, 30, 40, 50, 60, 70, 80, 90]
    assert found["shares"] == pytest.approx([0.1] * 10)


def test_a_value_that_comes_often_falls_into_one_bin() -> None:
    found = histogram(np.array([0] * 70 + list(range(1, 31))))
    assert found["edges"][0] == 0
    assert found["shares"][0] == pytest.approx(0.7)
    assert sum(found["shares"]) == pytest.approx(1)


def test_what_differs_from_a_constant_falls_out_of_its_bin() -> None:
    found = histogram(np.full(10, 3.5))
    low, high = found["edges"]
    assert low < 3.5 <= high
    assert found["shares"] == [0, 1, 0]


def test_the_baseline_has_every_numeric_input_and_what_was_predicted(tmp_path: Path) -> None:
    train = split(
        tmp_path,
        size=np.arange(50, dtype=np.float32),
        picture=np.zeros((50, 4, 4), np.float32),
        name=np.array([b"x"] * 50),
    )
    specs = [InputSpec("size", (), "float32"), InputSpec("picture", (4, 4), "float32"), InputSpec("name", (), "string")]
    found = baseline(train, specs, sure_of(CAT, CAT, CAT, DOG), TARGET)
    assert set(found["inputs"]) == {"size", "picture"}
    assert found["classes"] == {"cat": 0.75, "dog": 0.25, "owl": 0}
    assert found["examples"] == {"train": 50, "test": 4}
    json.dumps(found, allow_nan=False)


def test_the_baseline_has_the_share_of_what_is_missing(tmp_path: Path) -> None:
    ages = np.arange(50, dtype=np.float32)
    train = split(tmp_path, age=np.where(ages < 10, np.float32(np.nan), ages))
    found = baseline(train, [InputSpec("age", (), "float32", nullable=True)], sure_of(CAT), TARGET)
    assert found["inputs"]["age"]["missing"] == pytest.approx(0.2)
    assert sum(found["inputs"]["age"]["shares"]) == pytest.approx(1)


def test_of_large_inputs_a_part_of_the_values_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlplatform.data.distributions.VALUES", 1000)
    monkeypatch.setattr("mlplatform.data.distributions.LARGE_EXAMPLES", 100)
    values = np.random.default_rng(0).random((200, 30, 30), np.float32)
    train = split(tmp_path, picture=values)
    found = baseline(train, [InputSpec("picture", (30, 30), "float32")], sure_of(CAT), TARGET)
    assert found["inputs"]["picture"]["edges"] == pytest.approx(np.arange(1, 10) / 10, abs=0.1)
