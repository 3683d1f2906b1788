"""A target of levels: how far off a label is, by scikit-learn's metrics."""

import json

import numpy as np
import pytest
from sklearn import metrics as scikit

from mlplatform.contract.comparison import Opponent
from mlplatform.contract.criteria import Criteria, Criterion
from mlplatform.contract.gate import judge
from mlplatform.contract.targets import Ordinal
from mlplatform.contract.targets.base import Answers
from mlplatform.contract.targets.ordinal import Levels

GRADE = Ordinal("grade", ("poor", "fair", "good", "great"))
TRUE = np.random.default_rng(3).integers(0, 4, 500)


def off(share: float, levels: int) -> Levels:
    """What a model says that is so many levels off in a share of the rows, or as many as there are."""
    wrong = np.random.default_rng(5).random(len(TRUE)) < share
    said = np.where(wrong, np.where(TRUE + levels < 4, TRUE + levels, np.maximum(0, TRUE - levels)), TRUE)
    return GRADE.rows(TRUE.astype(np.int32), np.eye(4, dtype=np.float32)[said])


def test_metrics_are_scikit_learns() -> None:
    rows = off(0.3, 2)
    found = rows.values(["quadratic_kappa", "mean_level_error", "accuracy"])
    expected = scikit.cohen_kappa_score(rows.true, rows.predicted, weights="quadratic")
    assert found["quadratic_kappa"] == pytest.approx(expected)
    assert found["mean_level_error"] == pytest.approx(scikit.mean_absolute_error(rows.true, rows.predicted))
    times = np.random.default_rng(1).integers(0, 4, len(rows))
    repeated = [np.repeat(column, times) for column in (rows.true, rows.predicted)]
    weighted = rows.values(["quadratic_kappa", "mean_level_error"], times.astype(float))
    assert weighted["quadratic_kappa"] == pytest.approx(scikit.cohen_kappa_score(*repeated, weights="quadratic"))
    assert weighted["mean_level_error"] == pytest.approx(scikit.mean_absolute_error(*repeated))


def test_a_row_without_a_prediction_is_as_far_off_as_can_be() -> None:
    rows = GRADE.rows(np.array([0, 1, 2], np.int32), np.full((3, 4), np.nan, np.float32))
    assert rows.values(["mean_level_error"])["mean_level_error"] == pytest.approx((3 + 2 + 2) / 3)
    json.dumps(GRADE.metrics(rows), allow_nan=False)


CRITERIA = Criteria((GRADE.default,))


def reasons(model: Levels, other: Levels | None = None) -> tuple[str, ...]:
    opponent = GRADE.compare("c0ffee", model, other, CRITERIA) if other is not None else Opponent(skipped="none")
    metrics = {**GRADE.metrics(model), "export_difference": 0.0}
    return judge(GRADE, metrics, CRITERIA, opponent, GRADE.against_constant(model, CRITERIA)).reasons


def test_a_model_that_is_as_often_right_and_farther_off_is_refused() -> None:
    assert reasons(off(0.2, 1)) == ()
    assert reasons(off(0.2, 1), off(0.2, 2)) == ()
    (reason,) = reasons(off(0.2, 2), off(0.2, 1))
    assert reason.startswith("quadratic_kappa is ")


def test_a_model_has_to_be_nearer_than_the_median_level() -> None:
    criteria = Criteria((Criterion("mean_level_error", maximum=3.0), Criterion("accuracy", minimum=0.1)))
    constant = GRADE.against_constant(off(0.1, 1), criteria)
    assert constant is not None
    assert constant.beaten
    assert {change.metric for change in constant.changes} == {"mean_level_error"}
    assert constant.comparison is not None


def test_events_tell_how_far_off_a_label_is() -> None:
    truth = np.array(["poor", "great"], object)
    (rows,) = GRADE.observed(truth, [Answers(np.array(["poor", "fair"], object), np.array([0.9, 0.4]))])
    assert GRADE.measurable("mean_level_error", rows)
    assert rows.values(["mean_level_error"])["mean_level_error"] == 1.0
