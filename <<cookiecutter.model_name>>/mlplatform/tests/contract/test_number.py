"""A target that is a number: scikit-learn's metrics, what is a value, and how two models are told apart."""

import json
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as scikit

from mlplatform.contract.comparison import Opponent, Paired
from mlplatform.contract.criteria import Criteria, Criterion
from mlplatform.contract.gate import judge, why_incomparable
from mlplatform.contract.metrics import METRICS
from mlplatform.contract.targets import Classes, Number
from mlplatform.contract.targets.number_measures import Numbers, numbers

PRICE = Number("price", "EUR")
GENERATOR = np.random.default_rng(3)
TRUE = GENERATOR.normal(100, 20, 400)
NAMES = [name for name, facts in METRICS.items() if "number" in facts.kinds]


def off(spread: float, bias: float = 0.0) -> Numbers:
    """What a model says whose errors are spread by so much around so much."""
    return Numbers(TRUE, TRUE + bias + np.random.default_rng(5).normal(0, spread, len(TRUE)))


@pytest.mark.parametrize("name", NAMES)
def test_metrics_are_scikit_learns(name: str) -> None:
    rows = off(5, 1)
    weights = np.random.default_rng(1).integers(0, 4, len(rows)).astype(float)
    by_scikit = getattr(scikit, name)
    assert rows.values([name])[name] == pytest.approx(by_scikit(rows.true, rows.predicted))
    # A row that counts three times is there three times.
    true, predicted = (np.repeat(column, weights.astype(int)) for column in (rows.true, rows.predicted))
    assert rows.values([name], weights)[name] == pytest.approx(by_scikit(true, predicted))


def test_r2_has_no_value_where_the_truth_is_always_the_same() -> None:
    assert PRICE.metrics(Numbers(np.ones(5), np.arange(5.0)))["r2_score"] is None


def test_what_is_not_finite_is_no_prediction_and_closes_the_gate() -> None:
    found = PRICE.metrics(numbers(np.ones(3), np.array([[1], [np.nan], [np.inf]], np.float32)))
    assert (found["examples"], found["invalid"], found["mean_absolute_error"]) == (3, 2, 0.0)
    json.dumps(found, allow_nan=False)
    (reason,) = judge(PRICE, {**found, "export_difference": 0.0}, Criteria(()), Opponent()).reasons
    assert reason == "what the exported model predicts for 2 of 3 test examples are no numbers: not finite"


def test_errors_are_told_by_ranges_of_the_truth() -> None:
    ranges = PRICE.metrics(Numbers(TRUE, TRUE + np.where(TRUE > 120, -30.0, 1.0)))["by_truth"]
    assert [each["examples"] for each in ranges] == [80] * 5
    assert ranges[0]["bias"] == pytest.approx(1)
    assert ranges[-1]["mean_absolute_error"] > 20


@pytest.mark.parametrize("value", [True, "12", None, [1.0], 10**400, 1e39])
def test_a_truth_is_a_number_that_a_float32_can_hold(value: Any) -> None:
    with pytest.raises(ValueError, match="is no number"):
        PRICE.text(value)


def test_truths_keep_their_value() -> None:
    values = [12, -0.5, 1e-7, 123456.789]
    encoded, valid = PRICE.encode([PRICE.text(value).encode() for value in values], {})
    assert encoded.dtype == np.float32
    assert valid.all()
    np.testing.assert_array_equal(encoded, np.array(values, np.float32))
    assert [PRICE.decode(value) for value in encoded[:2]] == [12.0, -0.5]


def test_an_export_is_measured_by_how_far_values_are_spread() -> None:
    millions = np.array([1e6, 1.2e6, 1.4e6], np.float32)
    assert PRICE.difference(millions + np.float32(1), millions) < 1e-4
    assert PRICE.difference(millions + np.float32(1000), millions) > 1e-4
    assert PRICE.difference(np.full(3, np.nan, np.float32), millions) != 0


ASKED = Criteria((Criterion("mean_absolute_error", maximum=10.0, maximum_regression=0.5),))


def reasons(model: Numbers, other: Numbers | None = None, criteria: Criteria = ASKED) -> tuple[str, ...]:
    opponent = PRICE.compare("c0ffee", model, other, criteria) if other is not None else Opponent(skipped="none")
    metrics = {**PRICE.metrics(model), "export_difference": 0.0}
    return judge(PRICE, metrics, criteria, opponent, PRICE.against_constant(model, criteria)).reasons


def test_a_good_model_passes_with_and_without_production() -> None:
    assert reasons(off(5)) == ()
    assert reasons(off(5), off(5)) == ()
    assert reasons(off(4), off(5)) == ()


def test_an_error_above_the_maximum_is_refused() -> None:
    (reason,) = reasons(off(14))
    assert reason.startswith("mean_absolute_error 10.7")
    assert reason.endswith("on the test split is above maximum 10 of [gate.mean_absolute_error]")


def test_a_model_that_is_farther_off_than_production_is_refused() -> None:
    (reason,) = reasons(off(7), off(5))
    assert "higher than that of c0ffee in production on the same 400 test examples, more than maximum_regr" in reason


def test_a_model_has_to_be_nearer_than_a_constant() -> None:
    (reason,) = reasons(off(0.0).constant(100.0), criteria=Criteria((Criterion("mean_absolute_error", maximum=50.0),)))
    assert reason.startswith("always answering 'the median ")
    (reason,) = reasons(off(60), criteria=Criteria((Criterion("r2_score", minimum=-99.0),)))
    assert reason.startswith("always answering 'the mean ")


def test_a_constant_comes_from_the_train_split_where_it_is_at_hand() -> None:
    constant = PRICE.against_constant(off(5), ASKED, np.array([1, 2, 9], np.float32))
    assert constant is not None
    assert (constant.label, constant.beaten) == ("the median 2", True)


def test_anything_passes_where_nothing_is_asked() -> None:
    assert reasons(off(500), criteria=Criteria((Criterion("mean_absolute_error", maximum=float("inf")),))) == ()


def test_two_models_are_compared_row_by_row_by_their_absolute_errors() -> None:
    opponent = PRICE.compare("c0ffee", off(4), off(6), ASKED)
    assert isinstance(opponent.comparison, Paired)
    assert (opponent.comparison.examples, opponent.comparison.closer) == (400, 400)
    assert opponent.comparison.p_value < 1e-6
    change = opponent.changes["mean_absolute_error"]
    assert change.low < change.model - change.other < change.high < 0
    assert Opponent.from_json(json.loads(json.dumps(opponent.to_json()))) == opponent


def test_a_model_of_another_target_or_unit_is_not_compared_with() -> None:
    signature = {"inputs": [{"name": "x", "shape": [None], "dtype": "float32"}]}

    def properties(target: Number | Classes) -> dict[str, Any]:
        return {"signature": signature, "targets": [target.to_json()]}

    here = properties(PRICE)
    assert why_incomparable(here, here) == ""
    assert "in USD, and this one in EUR" in why_incomparable(properties(Number("price", "USD")), here)
    assert "another target" in why_incomparable(properties(Number("rent", "EUR")), here)
    assert "another target" in why_incomparable(properties(Classes("label", "ab")), here)
