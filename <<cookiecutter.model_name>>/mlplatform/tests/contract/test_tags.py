"""A target of tags: scikit-learn's metrics, thresholds of the validation split, and how two models are told apart."""

import json
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as scikit

from mlplatform.config.settings import SettingsError
from mlplatform.contract.comparison import Comparison, Opponent
from mlplatform.contract.criteria import Criteria, Criterion
from mlplatform.contract.gate import judge, why_incomparable
from mlplatform.contract.metrics import METRICS
from mlplatform.contract.targets import Classes, Tags
from mlplatform.contract.targets.tag_measures import TagRows

NAMES = ("even", "prime", "loop", "rare")
TRAITS = Tags("traits", NAMES)
GENERATOR = np.random.default_rng(3)
TRUE = GENERATOR.random((600, 4)) < [0.5, 0.4, 0.3, 0.03]


def said(spread: float, seed: int = 5, of: Tags = TRAITS) -> TagRows:
    """Rows of a model whose logits are off by so much."""
    noise = np.random.default_rng(seed).normal(0, spread, TRUE.shape)
    return of.rows(TRUE.astype(np.float32), (1 / (1 + np.exp(-(4.0 * TRUE - 2.0 + noise)))).astype(np.float32))


def by_scikit(name: str, rows: TagRows) -> float:
    average, _, plain = name.partition("_")
    scores = {"f1": scikit.f1_score, "precision": scikit.precision_score, "recall": scikit.recall_score}
    if plain in scores and average in ("macro", "micro", "weighted"):
        return float(scores[plain](rows.true, rows.said, average=average, zero_division=0))
    if name in ("subset_accuracy", "hamming_loss"):
        of_sets = scikit.accuracy_score if name == "subset_accuracy" else scikit.hamming_loss
        return float(of_sets(rows.true, rows.said))
    return float(getattr(scikit, f"{name}_score")(rows.true, rows.probabilities, average="macro"))


@pytest.mark.parametrize("name", [name for name, facts in METRICS.items() if "tags" in facts.kinds and facts.whole])
def test_metrics_are_scikit_learns(name: str) -> None:
    rows = said(2)
    assert rows.values([name])[name] == pytest.approx(by_scikit(name, rows))
    # A row that counts three times is there three times.
    times = np.random.default_rng(1).integers(0, 4, len(rows))
    true, probabilities = (np.repeat(cells, times, axis=0) for cells in (rows.true, rows.of_every_tag()))
    repeated = TRAITS.rows(true.astype(np.float32), probabilities.astype(np.float32))
    assert rows.values([name], times.astype(float))[name] == pytest.approx(by_scikit(name, repeated))


@pytest.mark.parametrize("name", ["precision", "recall", "f1", "roc_auc", "average_precision"])
def test_metrics_of_one_tag_are_scikit_learns(name: str) -> None:
    rows = said(2)
    given = rows.of_every_tag()[:, 1] if name in ("roc_auc", "average_precision") else rows.said[:, 1]
    assert rows.values([f"{name}.prime"])[f"{name}.prime"] == pytest.approx(
        getattr(scikit, f"{name}_score")(rows.true[:, 1], given)
    )


def test_a_tag_that_neither_occurs_nor_is_said_is_left_out_of_the_mean() -> None:
    few = TRAITS.rows(np.array([[1, 0, 0, 0], [0, 1, 0, 0]]), np.array([[0.9, 0, 0, 0], [0.9, 0, 0, 0]], np.float32))
    assert few.values(["macro_f1"])["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)
    nothing = TRAITS.rows(np.zeros((2, 4)), np.zeros((2, 4), np.float32))
    assert TRAITS.metrics(nothing)["macro_f1"] is None


def test_a_run_chooses_for_each_tag_the_threshold_with_the_highest_f1_on_its_validation_split() -> None:
    true = np.array([[1, 0], [1, 0], [0, 0], [0, 0]])
    probabilities = np.array([[0.9, 0.1], [0.3, 0.2], [0.2, 0.3], [0.1, 0.4]], np.float32)
    decided = Tags("traits", ("even", "rare")).decided(true, probabilities)
    # In the middle between two probabilities, so that rounding changes nothing; 0.5 without an example.
    assert decided.thresholds == pytest.approx((0.25, 0.5))
    rows = decided.rows(true, probabilities)
    assert rows.said.tolist() == [[True, False], [True, False], [False, False], [False, False]]
    assert Tags.from_json(json.loads(json.dumps(decided.to_json()))) == decided


def test_no_other_threshold_has_a_higher_f1() -> None:
    rows = said(3)
    true, scores = rows.true[:100], rows.of_every_tag()[:100].astype(np.float32)
    for tag, threshold in enumerate(TRAITS.decided(true, scores).thresholds):
        best = max(scikit.f1_score(true[:, tag], scores[:, tag] >= limit) for limit in np.unique(scores[:, tag]))
        assert scikit.f1_score(true[:, tag], scores[:, tag] >= threshold) == pytest.approx(best)


def test_thresholds_that_the_team_gives_are_kept() -> None:
    given = Tags("traits", NAMES, (0.1, 0.2, 0.3, 0.4))
    assert not given.has_threshold
    assert given.decided(TRUE, said(2).of_every_tag().astype(np.float32)) is given


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        (Tags("traits", ()), "there is none; name each tag once"),
        (Tags("traits", (1, "1")), "'1' is there twice"),
        (Tags("id", NAMES), "'id' must be a property of model.RECORD"),
        (Tags("traits", NAMES, (0.5,)), "give one from 0 to 1 for each of its 4 labels"),
        (Tags("traits", ("even",), (50,)), "give one from 0 to 1 for each of its 1 labels"),
    ],
)
def test_what_cannot_be_learned_is_refused(target: Tags, sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        target.check()
    assert sentence in str(refused.value)


def test_a_truth_is_a_list_of_labels_in_any_order() -> None:
    texts = [TRAITS.text(value).encode() for value in (["loop", "even"], ["even", "loop"], [])]
    assert texts[0] == texts[1] == b'["even", "loop"]'
    encoded, valid = TRAITS.encode(texts, {})
    assert encoded.tolist() == [[1, 0, 1, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    assert encoded.dtype == np.float32
    assert valid.all()
    assert [TRAITS.decode(row) for row in encoded[1:]] == [["even", "loop"], []]
    assert [TRAITS.shown(row) for row in encoded[1:]] == ["even, loop", "no tag"]


@pytest.mark.parametrize(
    ("value", "clause"),
    [
        ("even", "is no list of labels"),
        (["odd"], "names 'odd', which is none of the labels of 'traits' in model.TARGETS"),
        (["even", "even"], "names 'even' twice"),
        ([["even"]], r'holds \["even"\], which is no label'),
        ([None], "holds null, which is no label"),
    ],
)
def test_anything_else_is_no_truth(value: Any, clause: str) -> None:
    with pytest.raises(ValueError, match=clause):
        TRAITS.text(value)


def test_what_is_no_probability_is_wrong_in_every_tag_and_closes_the_gate() -> None:
    rows = TRAITS.rows(np.zeros((3, 4)), np.array([[0] * 4, [np.nan, 0, 0, 0], [1.5, 0, 0, 0]], np.float32))
    assert rows.wrong.tolist() == [0, 4, 4]
    found = TRAITS.metrics(rows)
    assert (found["examples"], found["invalid"]) == (3, 2)
    json.dumps(found, allow_nan=False)
    (reason,) = judge(TRAITS, {**found, "export_difference": 0.0}, Criteria(()), Opponent()).reasons
    assert reason.endswith("for 2 of 3 test examples are no probabilities: not between 0 and 1")


def test_an_output_and_a_loss_have_to_be_of_tags_that_are_each_by_themselves() -> None:
    assert TRAITS.output_fault((None, 4)) == ""
    assert TRAITS.output_fault((None, 1)) == "one probability for each of the 4 labels of 'traits', (None, 4)"
    assert all(TRAITS.fits_loss(name) for name in ("binary_crossentropy", "BinaryFocalCrossentropy"))
    assert not any(TRAITS.fits_loss(name) for name in ("categorical_crossentropy", "sparse_categorical_crossentropy"))
    logits = np.array([[-3, 0.5, 2, 0.1]], np.float32)
    assert "it is -3; end with activation='sigmoid'" in TRAITS.prediction_fault(logits)


ASKED = Criteria((Criterion("macro_f1", minimum=0.6, maximum_regression=0.02),))


def reasons(model: TagRows, other: TagRows | None = None, criteria: Criteria = ASKED) -> tuple[str, ...]:
    opponent = TRAITS.compare("c0ffee", model, other, criteria) if other is not None else Opponent(skipped="none")
    metrics = {**TRAITS.metrics(model), "export_difference": 0.0}
    return judge(TRAITS, metrics, criteria, opponent, TRAITS.against_constant(model, criteria)).reasons


def test_a_good_model_passes_with_and_without_production() -> None:
    assert reasons(said(1)) == ()
    assert reasons(said(1), said(1)) == ()
    assert reasons(said(1), said(2)) == ()


def test_a_worse_model_than_production_is_refused() -> None:
    (reason,) = reasons(said(2), said(1))
    assert (
        "lower than that of c0ffee in production on the same 600 test examples, more than maximum_regression" in reason
    )


def test_a_table_may_be_about_one_tag_or_about_each() -> None:
    of_each = Criteria((Criterion("recall", minimum=0.99),))
    assert len(reasons(said(2), criteria=of_each)) == 4
    (reason,) = reasons(said(2), criteria=Criteria((Criterion("precision.rare", minimum=0.99),)))
    assert "is below minimum 0.99 of [gate.precision.rare]" in reason


@pytest.mark.parametrize(
    ("metric", "label"),
    [
        ("macro_f1", "every tag"),
        ("micro_f1", "even, prime"),
        ("subset_accuracy", "even"),
        ("hamming_loss", "even, prime"),
        ("macro_recall", "every tag"),
    ],
)
def test_a_model_has_to_be_better_than_the_tags_that_a_metric_is_best_by(metric: str, label: str) -> None:
    true = np.array([[1, 0, 0, 0]] * 40 + [[1, 1, 0, 0]] * 30 + [[0, 1, 1, 0]] * 29 + [[0, 0, 0, 1]])
    good = TRAITS.rows(true, np.where(true, 0.9, 0.1).astype(np.float32))
    bound: dict[str, Any] = {"maximum": 0.9} if metric == "hamming_loss" else {"minimum": 0.1}
    constant = TRAITS.against_constant(good, Criteria((Criterion(metric, **bound),)))
    assert constant is not None
    assert (constant.label, constant.beaten) == (label, True)
    constant = TRAITS.against_constant(good.always(np.ones(4, bool)), Criteria((Criterion(metric, **bound),)))
    assert constant is not None
    assert not constant.beaten


def test_how_much_each_tag_may_lose_is_asked_of_one_figure() -> None:
    with pytest.raises(SettingsError, match=r"\[gate.recall\]: maximum_regression is of one figure; ask for it in"):
        TRAITS.fitted(Criteria((Criterion("recall", minimum=0.5, maximum_regression=0.1),)))
    with pytest.raises(SettingsError, match=r"the model has no label 'prim'; did you mean 'prime'\?"):
        TRAITS.fitted(Criteria((Criterion("recall.prim", minimum=0.5),)))


def test_two_models_are_compared_by_whether_all_tags_are_right_and_by_what_they_find_of_each() -> None:
    opponent = TRAITS.compare("c0ffee", said(1), said(2), ASKED)
    assert isinstance(opponent.comparison, Comparison)
    assert opponent.comparison.only_model > opponent.comparison.only_production
    assert opponent.comparison.accuracies[0] == pytest.approx(said(1).values(["subset_accuracy"])["subset_accuracy"])
    assert {*opponent.classes} == {*NAMES}
    assert Opponent.from_json(json.loads(json.dumps(opponent.to_json()))) == opponent


def test_a_model_of_other_tags_is_not_compared_with() -> None:
    signature = {"inputs": [{"name": "x", "shape": [None], "dtype": "float32"}]}

    def properties(target: Tags | Classes) -> dict[str, Any]:
        return {"signature": signature, "targets": [target.to_json()]}

    here = properties(TRAITS)
    assert why_incomparable(properties(Tags("traits", NAMES, [0.1] * 4)), here) == ""
    assert why_incomparable(properties(Tags("traits", NAMES[:3])), here) == "it knows other labels: rare only here"
    assert "another target" in why_incomparable(properties(Classes("traits", NAMES)), here)


def test_an_export_agrees_where_the_tags_are_the_same() -> None:
    decided = Tags("traits", NAMES, (0.5, 0.5, 0.5, 0.2))
    one = np.array([[0.9, 0.1, 0.4, 0.21]], np.float32)
    assert decided.agreeing(one, one - np.float32(0.005)) == 1.0
    assert decided.agreeing(one, one - np.float32(0.02)) == 0.0
    assert decided.difference(one, one - np.float32(0.25)) == pytest.approx(0.25)


def test_drift_is_of_how_often_each_tag_is_said() -> None:
    probabilities = said(1).of_every_tag().astype(np.float32)
    baseline = TRAITS.baseline(probabilities)
    signals = TRAITS.signals(probabilities)
    assert sum(baseline["tags"].values()) + baseline["without"] == pytest.approx(1)
    assert TRAITS.frequencies(signals).tolist() == (probabilities >= 0.5).sum(axis=0).tolist()
    edges, shares = TRAITS.edges(baseline)["tags"]
    assert (edges, len(shares)) == (None, 5)
    assert np.bincount(signals["tags"], minlength=5) / len(signals["tags"]) == pytest.approx(shares)
