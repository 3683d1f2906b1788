"""Several targets of one model: truths, criteria of the gate, metrics, answers and events."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlplatform.config.settings import SettingsError
from mlplatform.contract import gate
from mlplatform.contract.comparison import Constant, Opponent
from mlplatform.contract.criteria import Criteria, load_criteria
from mlplatform.contract.targets import Classes, Number, Tags, of_manifest
from mlplatform.contract.targets.base import Answers
from mlplatform.contract.targets.several import Several

Write = Callable[[str], object]
TARGET = Several([Classes("digit", "012"), Number("ink", "%"), Tags("traits", ("even", "loop"), (0.5, 0.5))])
# 400 rows whose digit, ink and traits follow each other.
DIGITS = np.arange(400) % 3
TRUTH = np.column_stack([DIGITS, DIGITS * 10.0, DIGITS % 2 == 0, DIGITS == 0]).astype(np.float32)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes the tables of the gate into service.toml."""
    monkeypatch.setenv("SERVICE_TOML", str(tmp_path / "service.toml"))
    return (tmp_path / "service.toml").write_text


def predictions(of_digit: float = 0.9, off: float = 0.5) -> NDArray[np.float32]:
    """What a model gives that is as sure of the digit, and wrong by as much about the ink; its traits are right."""
    digit = np.full((400, 3), (1 - of_digit) / 2)
    digit[np.arange(400), DIGITS] = of_digit
    noise = np.where(np.arange(400) % 2, off, -off)
    return np.column_stack([digit, TRUTH[:, 1] + noise, TRUTH[:, 2:] * 0.8 + 0.1]).astype(np.float32)


def judged(predicted: NDArray[np.float32], production: NDArray[np.float32] | None = None) -> gate.Verdict:
    """The gate without tables."""
    criteria = TARGET.fitted(Criteria(by_default=True))
    rows = TARGET.rows(TRUTH, predicted)
    opponent = Opponent(skipped="there is none")
    if production is not None:
        opponent = TARGET.compare("before", rows, TARGET.rows(TRUTH, production), criteria)
    metrics = {**TARGET.metrics(rows), "export_difference": 0.0}
    return gate.judge(TARGET, metrics, criteria, opponent, TARGET.against_constant(rows, criteria, TRUTH))


def test_a_manifest_lists_them() -> None:
    assert of_manifest({"targets": [part.to_json() for part in TARGET.parts]}) == TARGET


def test_truths_stand_beside_each_other_and_come_apart_again() -> None:
    texts, valid = TARGET.texts([{"digit": 2, "ink": 1.5, "traits": ["loop", "even"]}])
    assert valid.all()
    truth, valid = TARGET.encode(texts, {})
    assert valid.all()
    assert truth.tolist() == [[2, 1.5, 1, 1]]
    assert TARGET.decode(truth[0]) == {"digit": "2", "ink": 1.5, "traits": ["even", "loop"]}
    apart = TARGET.for_loss(truth)
    assert {name: (array.dtype.name, array.shape) for name, array in apart.items()} == {
        "digit": ("int32", (1,)),
        "ink": ("float32", (1,)),
        "traits": ("float32", (1, 2)),
    }


@pytest.mark.parametrize(
    ("change", "sentence"),
    [({"digit": "7"}, "digit: '7' is none of its labels"), ({"ink": None}, "no number"), ({"traits": "x"}, "no list")],
)
def test_a_truth_that_one_of_them_cannot_read_is_none(change: dict[str, Any], sentence: str) -> None:
    value = {"digit": "1", "ink": 3, "traits": [], **change}
    _, valid = TARGET.texts([value])
    assert not valid.any()
    with pytest.raises(ValueError, match=sentence):
        TARGET.text(value)


def test_the_gate_has_tables_for_each_by_its_name(write: Write) -> None:
    write(
        "[gate.digit.accuracy]\nminimum = 0.5\n[gate.digit.recall.2]\nminimum = 0.4\n"
        "[gate.ink.mae]\nmaximum = 3\n[gate]\nabsent_labels = ['digit.1']\n"
    )
    criteria = TARGET.fitted(load_criteria())
    assert criteria.to_json()["criteria"] == {
        "digit.accuracy": {"minimum": 0.5},
        "digit.recall.2": {"minimum": 0.4},
        "ink.mean_absolute_error": {"maximum": 3.0},
        "traits.macro_f1": {"minimum": 0.5, "maximum_regression": 0.02},
    }
    assert criteria.of("digit").absent_labels == ("1",)
    assert criteria.of("ink").absent_labels == ()


def test_the_environment_overrides_the_table_of_a_target(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("[gate.digit.accuracy]\nminimum = 0.5\n")
    monkeypatch.setenv("GATE_DIGIT_ACCURACY_MINIMUM", "0.75")
    assert TARGET.fitted(load_criteria()).of("digit").rows[0].minimum == 0.75


@pytest.mark.parametrize(
    ("tables", "sentence"),
    [
        (
            "[gate.accuracy]\nminimum = 0.5\n",
            "[gate.accuracy]: there are several targets; say of which, [gate.digit.acc",
        ),
        (
            "[gate.size.accuracy]\nminimum = 0.5\n",
            "[gate.size.accuracy]: model.TARGETS has no 'size'; it has 'digit', ",
        ),
        (
            "[gate.ink.accuracy]\nminimum = 0.5\n",
            "[gate.ink.accuracy]: target 'ink' of model.TARGETS is of kind 'number'",
        ),
        ("[gate.ink.accuracy]\nminimum = 0.5\n", "ask for [gate.ink.r2_score] minimum = ..."),
        ("[gate.digit.recall.9]\nminimum = 0.5\n", "[gate.digit.recall.9]: the model has no label '9'"),
        ("[gate]\nabsent_labels = ['1']\n", "gate.absent_labels: '1' must begin with the name of its target"),
    ],
)
def test_a_table_that_is_about_none_of_them_is_refused(write: Write, tables: str, sentence: str) -> None:
    write(tables)
    with pytest.raises(SettingsError) as refused:
        TARGET.fitted(load_criteria())
    assert sentence in str(refused.value)


def test_a_model_of_one_target_has_no_tables_of_another(write: Write) -> None:
    write("[gate.digit.accuracy]\nminimum = 0.5\n")
    with pytest.raises(SettingsError, match=r"\[gate.digit.accuracy\]: model.TARGETS has no 'digit'; it has 'label'"):
        Classes("label", "ab").fitted(load_criteria())


def test_the_gate_is_open_where_each_target_passes() -> None:
    assert judged(predictions()).passed


def test_the_worst_of_them_closes_the_gate_under_its_name() -> None:
    verdict = judged(predictions(off=40.0))
    assert not verdict.passed
    assert all(reason.startswith("ink: ") for reason in verdict.reasons)
    assert "below minimum 0 of [gate.ink.r2_score]" in "; ".join(verdict.reasons)


def test_what_one_of_them_loses_against_production_closes_the_gate() -> None:
    worse = predictions()
    worse[:40, :3] = np.roll(worse[:40, :3], 1, axis=1)
    reasons = judged(worse, production=predictions()).reasons
    assert reasons
    assert all(reason.startswith("digit: ") for reason in reasons)
    assert judged(predictions(), production=worse).passed


def test_a_verdict_is_read_again_as_it_was_written() -> None:
    criteria = TARGET.fitted(Criteria(by_default=True))
    rows, other = TARGET.rows(TRUTH, predictions()), TARGET.rows(TRUTH, predictions(off=1.0))
    opponent = TARGET.compare("before", rows, other, criteria)
    constant = TARGET.against_constant(rows, criteria, TRUTH)
    assert Opponent.from_json(opponent.to_json()).to_json() == opponent.to_json()
    assert constant is not None
    assert Constant.from_json(constant.to_json()) == constant
    assert opponent.compared is not None
    assert opponent.compared.production == "before"
    assert {"ink.r2_score", "traits.macro_f1"} <= opponent.changed


def test_other_labels_of_one_of_them_are_another_task() -> None:
    other = Several([Classes("digit", "0123"), *TARGET.parts[1:]])
    assert TARGET.why_other(other) == "of 'digit' it knows other labels: 3 only there"
    assert TARGET.why_other(TARGET) == ""


def test_events_note_label_and_score_of_each() -> None:
    labels, scores = TARGET.noted(predictions()[:2])
    answers = Answers(np.array([*labels, None, "cat"], object), np.array([*scores, 0, 0], np.float64))
    digit, ink, traits = (TARGET.answers_of(part, answers) for part in TARGET.parts)
    assert digit.labels.tolist() == ["0", "1", None, None]
    assert digit.scores[:2] == pytest.approx([0.9, 0.9])
    assert ink.labels.tolist() == [None] * 4
    assert ink.scores[:2] == pytest.approx([-0.5, 10.5])
    assert np.isnan(ink.scores[2:]).all()
    assert traits.labels.tolist() == ['["even", "loop"]', "[]", None, None]


def test_answers_are_the_same_where_their_labels_are() -> None:
    (one,), _ = TARGET.noted(predictions()[:1])
    (other,), _ = TARGET.noted(predictions(0.8, 0.1)[:1])
    (another,), _ = TARGET.noted(predictions()[1:2])
    assert TARGET.same(one, other)
    assert not TARGET.same(one, another)


def test_feedback_names_the_targets_that_are_known() -> None:
    known = TARGET.known(TARGET.feedback({"digit": 2, "traits": ["loop"]}))
    assert known is not None
    truths = np.array([known, None], object)
    assert [TARGET.truths_of(part, truths).tolist() for part in TARGET.parts] == [
        ["2", None],
        [None, None],
        ['["loop"]', None],
    ]
    assert TARGET.in_record(known) == {"digit": "2", "traits": ["loop"]}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("2", "expected an object with the truth of 'digit', 'ink', 'traits', or of some of them"),
        ({"size": 2}, "it names 'size'; the model predicts 'digit', 'ink', 'traits'"),
        ({"ink": "much"}, "of 'ink': expected a number, the true ink"),
    ],
)
def test_feedback_about_something_else_is_refused(given: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        TARGET.feedback(given)


def test_thresholds_are_chosen_for_each_that_has_none() -> None:
    open_tags = Several([*TARGET.parts[:2], Tags("traits", ("even", "loop"))])
    assert open_tags.has_threshold
    chosen = open_tags.decided(TRUTH, predictions()).parts[2]
    assert isinstance(chosen, Tags)
    assert len(chosen.thresholds) == 2
    assert open_tags.decided(TRUTH, predictions()).parts[:2] == TARGET.parts[:2]
