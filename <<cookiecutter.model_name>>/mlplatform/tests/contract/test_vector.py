"""A target that is a vector: verification by pairs, what is an identity, and how two models are told apart."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve

from mlplatform.config.settings import SettingsError
from mlplatform.contract.comparison import Opponent, Paired
from mlplatform.contract.criteria import Criteria, Criterion
from mlplatform.contract.gate import judge, why_incomparable
from mlplatform.contract.targets import Number, Vector, of_manifest
from mlplatform.contract.targets.base import Answers
from mlplatform.contract.targets.clauses import Clauses
from mlplatform.contract.targets.several import Several
from mlplatform.contract.targets.vector_measures import METRICS, PAIRS, Pairs, Vectors
from mlplatform.contract.targets.vector_notes import NOTED

PERSON = Vector("person", 8)
IDENTITIES = np.repeat([f"p{number:02d}" for number in range(30)], 6)


def said(spread: float, seed: int = 5, size: int = 8, identities: Any = IDENTITIES) -> NDArray[np.float32]:
    """Vectors around a direction of each identity, spread by so much."""
    generator = np.random.default_rng(seed)
    directions = np.random.default_rng(1).normal(0, 1, (len({*identities}), size))
    places = np.unique(identities, return_inverse=True)[1]
    return (directions[places] + generator.normal(0, spread, (len(places), size))).astype(np.float32)


def rows(spread: float, seed: int = 5, size: int = 8) -> Vectors:
    """What a model says whose vectors are spread by so much."""
    return Vectors(IDENTITIES, said(spread, seed, size))


def pairs_of(same: Sequence[float], different: Sequence[float]) -> Pairs:
    """Pairs with these similarities."""
    scores = np.array([*same, *different])
    first = np.zeros(len(scores), np.int64)
    second = np.repeat([0, 1], [len(same), len(different)])
    return Pairs(first, second, second == 0, scores, np.array([0, 1]), 2)


class TestMetrics:
    def test_the_area_is_the_share_of_pairs_in_the_right_order_equal_ones_by_half(self) -> None:
        # Of 3 x 4: 0.9 is above all 4; 0.6 above 3; 0.5 above 2 and equal to 1.
        found = pairs_of([0.9, 0.6, 0.5], [0.7, 0.5, 0.2, 0.1]).values(["roc_auc"])
        assert found["roc_auc"] == pytest.approx((4 + 3 + 2.5) / 12)

    def test_the_equal_error_rate_is_where_as_many_are_accepted_wrongly_as_refused_wrongly(self) -> None:
        # From 0.6 on 2 of 4 same ones are refused and 1 of 4 others accepted; from 0.5 on 1 and 1.
        same, different = [0.9, 0.6, 0.5, 0.1], [0.7, 0.3, 0.2, 0.0]
        assert pairs_of(same, different).values(["equal_error_rate"])["equal_error_rate"] == pytest.approx(0.25)

    def test_between_two_thresholds_the_equal_error_rate_lies_on_a_straight_line(self) -> None:
        # All pairs are alike: nothing is accepted, or everything.
        assert pairs_of([1, 1], [1, 1, 1]).values(["equal_error_rate"])["equal_error_rate"] == pytest.approx(0.5)

    def test_the_true_accept_rate_is_that_of_one_false_accept_in_a_hundred(self) -> None:
        different = np.linspace(0, 0.99, 100)
        # The most similar one of the 100 others, 0.99, may be accepted, and no second one, 0.98.
        found = pairs_of([1.0, 0.985, 0.975, 0.1], different.tolist())
        assert found.values(["true_accept_rate"])["true_accept_rate"] == 0.5
        assert found.threshold() == 0.985
        assert found.accepted(0.985) == {"true_accept_rate": 0.5, "false_accept_rate": 0.01}

    def test_with_few_pairs_of_two_identities_none_of_them_may_be_accepted(self) -> None:
        found = pairs_of([0.9, 0.5], [0.7, 0.1])
        assert found.values(["true_accept_rate"])["true_accept_rate"] == 0.5
        assert found.threshold() == 0.9

    def test_they_are_scikit_learns(self) -> None:
        pairs = rows(1.5).pairs
        found = pairs.values(METRICS)
        assert found["roc_auc"] == pytest.approx(roc_auc_score(pairs.same, pairs.scores))
        false, true, _ = roc_curve(pairs.same, pairs.scores, drop_intermediate=False)
        assert found["true_accept_rate"] == pytest.approx(true[false <= 0.01].max())
        assert np.interp(found["equal_error_rate"], false, true) == pytest.approx(1 - found["equal_error_rate"])

    def test_without_pairs_of_either_kind_there_is_no_figure(self) -> None:
        for identities in (["a", "a", "a"], ["a", "b", "c"]):
            found = PERSON.metrics(Vectors(np.array(identities), said(1, identities=identities)))
            assert [found[name] for name in METRICS] == [None, None, None]
            json.dumps(found, allow_nan=False)

    def test_of_distances_the_nearer_pair_is_the_more_similar_one(self) -> None:
        vectors = np.array([[0, 0], [0, 1], [9, 0], [9, 2]], np.float32)
        pairs = Vectors(np.array(list("aabb")), vectors, "euclidean").pairs
        assert pairs.scores[pairs.same].tolist() == [-1, -2]
        assert pairs.values(["roc_auc"])["roc_auc"] == 1

    def test_the_length_of_a_vector_says_nothing_to_the_cosine(self) -> None:
        lengths = np.random.default_rng(0).uniform(0.1, 9, (len(IDENTITIES), 1))
        longer = Vectors(IDENTITIES, rows(1).vectors * lengths)
        np.testing.assert_allclose(longer.pairs.scores, rows(1).pairs.scores)


class TestPairs:
    def test_of_few_rows_they_are_all(self) -> None:
        pairs = rows(1).pairs
        assert pairs.counts == {"same": 30 * 15, "different": 30 * 29 // 2 * 36}
        found = {(min(one, other), max(one, other)) for one, other in zip(pairs.first, pairs.second, strict=True)}
        assert len(found) == 180 * 179 // 2
        assert (pairs.same == (IDENTITIES[pairs.first] == IDENTITIES[pairs.second])).all()

    def test_of_many_rows_they_are_bounded_and_follow_from_the_identities(self) -> None:
        identities = np.repeat([f"p{number}" for number in range(20)], 200)
        one, other = (Vectors(identities, said(1, seed, identities=identities)).pairs for seed in (1, 2))
        for kind in ("same", "different"):
            assert 0.8 * PAIRS < one.counts[kind] <= PAIRS
        np.testing.assert_array_equal(one.first, other.first)
        np.testing.assert_array_equal(one.second, other.second)
        assert len({*zip(one.first.tolist(), one.second.tolist(), strict=True)}) == len(one.first)
        assert (one.same == (identities[one.first] == identities[one.second])).all()

    def test_an_identity_drawn_twice_counts_its_pairs_twice_and_meets_others_twice(self) -> None:
        pairs = Vectors(np.array(list("aabb")), said(1, identities=list("aabb"))).pairs
        accepted, wrongly = pairs.steps(np.array([2.0, 1.0]))
        # Of a two draws of one pair each, of b one; each of the 4 pairs of a and b meets twice.
        assert (accepted.sum(), wrongly.sum()) == (3, 8)
        accepted, wrongly = pairs.steps(np.array([2.0, 0.0]))
        assert (accepted.sum(), wrongly.sum()) == (2, 0)

    def test_an_interval_is_as_wide_as_identities_differ(self) -> None:
        found = PERSON.metrics(rows(1.5))
        low, high = (found["intervals"]["roc_auc"][end] for end in ("low", "high"))
        assert low < found["roc_auc"] < high
        # As many pairs of half as many identities tell less.
        few = IDENTITIES < "p10"
        fewer = PERSON.metrics(rows(1.5).at(few))["intervals"]["roc_auc"]
        assert fewer["high"] - fewer["low"] > high - low

    def test_a_rows_error_is_how_far_its_pairs_are_ranked_wrongly(self) -> None:
        # 0.9: same, first. 0.5: a pair of two. 0.4: same, so below one of two others. 0.1: a pair of two.
        first, second = np.array([0, 0, 2, 1]), np.array([1, 2, 3, 3])
        same = np.array([True, False, True, False])
        pairs = Pairs(first, second, same, np.array([0.9, 0.5, 0.4, 0.1]), np.array([0, 0, 1, 1, 2]), 3)
        # Of the pair 0.4 half of the others are above it, of the pair 0.5 half of the same ones below it.
        np.testing.assert_allclose(pairs.errors(), [0.25, 0, 0.5, 0.25, np.nan])


class TestTruth:
    @pytest.mark.parametrize("value", [None, ["a"], {}, "", "x" * 65, "a\0b", "ü" * 33])
    def test_an_identity_is_a_short_text_or_a_number(self, value: Any) -> None:
        with pytest.raises(ValueError, match="is no identity"):
            PERSON.text(value)

    def test_a_number_and_its_text_are_one_identity(self) -> None:
        assert PERSON.text(7) == PERSON.text(7.0) == PERSON.text("7") == "7"

    def test_truths_keep_the_identity(self) -> None:
        encoded, valid = PERSON.encode(["Zoë".encode(), b"7"], {})
        assert valid.all()
        assert [PERSON.decode(truth) for truth in encoded] == ["Zoë", "7"]
        assert PERSON.encode([], {})[0].shape == (0,)

    def test_a_loss_is_given_numbers_that_are_equal_within_a_batch(self) -> None:
        truth, _ = PERSON.encode([b"z", b"a", b"z", b"m"], {})
        codes = PERSON.for_loss(truth)
        assert codes.dtype == np.int32
        assert codes.tolist() == [2, 0, 2, 1]

    def test_a_split_says_how_many_identities_and_pairs_it_has(self) -> None:
        truth, _ = PERSON.encode([b"a", b"a", b"a", b"b"], {})
        found = PERSON.described(truth)["identities"]
        assert found == {"count": 2, "pairs": 3, "rows": {"fewest": 1, "median": 2.0, "most": 3}}
        json.dumps(PERSON.described(np.empty(0, np.int32)))

    @pytest.mark.parametrize(
        ("texts", "fault"),
        [
            ([b"a", b"a", b"b"], ""),
            ([b"a", b"a"], "1 identities of 'person', where two are compared"),
            ([b"a", b"b"], "no two examples of one identity of 'person'"),
            ([], "0 identities of 'person', where two are compared"),
        ],
    )
    def test_a_split_needs_pairs_of_either_kind(self, texts: list[bytes], fault: str) -> None:
        assert PERSON.split_fault(PERSON.described(PERSON.encode(texts, {})[0])) == fault

    def test_feedback_is_any_identity(self) -> None:
        assert (PERSON.feedback("never seen"), PERSON.feedback(12)) == ("never seen", "12")
        with pytest.raises(ValueError, match="expected the true person, a text or a number of up to 64 bytes"):
            PERSON.feedback(["a"])


class TestDefinition:
    @pytest.mark.parametrize(
        ("target", "sentence"),
        [
            (Vector("id", 8), "'id' must be a property of model.RECORD"),
            (Vector("person", 1), "size of 'person' is 1; give the vectors two values"),
            (Vector("person", 8, "manhattan"), "distance of 'person' is 'manhattan'; use one of cosine, euclidean"),
            (Several([PERSON, Number("age")]), "'person', of kind 'vector', cannot be one of several"),
        ],
    )
    def test_what_cannot_be_learned_is_refused(self, target: Vector, sentence: str) -> None:
        with pytest.raises(SettingsError) as refused:
            target.check()
        assert sentence in str(refused.value)

    def test_a_manifest_keeps_what_the_validation_split_decided(self) -> None:
        decided = PERSON.decided(IDENTITIES, said(0.5))
        assert decided.threshold == pytest.approx(rows(0.5).pairs.threshold())
        assert len(decided.centre) == 8
        assert of_manifest({"targets": [json.loads(json.dumps(decided.to_json()))]}) == decided

    def test_a_threshold_that_is_given_is_kept(self) -> None:
        assert Vector("person", 8, threshold=0.5).decided(IDENTITIES, said(0.5)).threshold == 0.5

    def test_figures_of_the_threshold_are_those_of_the_rows_at_hand(self) -> None:
        decided = PERSON.decided(IDENTITIES, said(0.5, seed=1))
        found = decided.metrics(decided.rows(IDENTITIES, said(0.5, seed=2)))["threshold"]
        assert found["value"] == decided.threshold
        assert 0 < found["false_accept_rate"] < 0.03
        assert 0.3 < found["true_accept_rate"] < 1

    @pytest.mark.parametrize("asked", [Criterion("roc_auc.p01", minimum=0.5)])
    def test_tables_of_a_label_are_refused(self, asked: Criterion) -> None:
        with pytest.raises(SettingsError, match="target 'person' has no labels; ask for"):
            PERSON.fitted(Criteria((asked,)))

    @pytest.mark.parametrize(("loss", "fits"), [("Circle", True), ("MeanSquaredError", False), ("hinge", False)])
    def test_a_loss_of_keras_has_to_compare_the_rows_of_a_batch(self, loss: str, fits: bool) -> None:
        assert PERSON.fits_loss(loss) is fits

    def test_an_export_is_measured_by_the_length_of_vectors(self) -> None:
        vectors = said(0.5)
        assert PERSON.difference(vectors * np.float32(1 + 1e-6), vectors) < 1e-5
        assert PERSON.difference(vectors * np.float32(1.01), vectors) > 1e-3

    @pytest.mark.parametrize(
        ("given", "fault"), [([[np.nan, 1]], "is not finite"), ([[0, 0]], "is 0 in every value"), ([[0, 1]], "")]
    )
    def test_a_vector_has_a_direction(self, given: list[list[float]], fault: str) -> None:
        assert fault in Vector("person", 2).prediction_fault(np.array(given, np.float32))
        assert Vector("person", 2, "euclidean").prediction_fault(np.zeros((1, 2), np.float32)) == ""


ASKED = Criteria((Criterion("roc_auc", minimum=0.8, maximum_regression=0.01),))


def reasons(model: Vectors, other: Vectors | None = None, criteria: Criteria = ASKED) -> tuple[str, ...]:
    opponent = PERSON.compare("c0ffee", model, other, criteria) if other is not None else Opponent(skipped="none")
    metrics = {**PERSON.metrics(model), "export_difference": 0.0}
    return judge(PERSON, metrics, criteria, opponent, PERSON.against_constant(model, criteria)).reasons


class TestGate:
    def test_a_good_model_passes_with_and_without_production(self) -> None:
        assert reasons(rows(1)) == ()
        assert reasons(rows(1), rows(1)) == ()
        assert reasons(rows(1), rows(1.5)) == ()

    def test_a_figure_below_the_minimum_is_refused(self) -> None:
        (reason,) = reasons(rows(3))
        assert reason.startswith("roc_auc 0.5")
        assert reason.endswith("on the test split is below minimum 0.8 of [gate.roc_auc]")

    def test_a_model_that_tells_identities_apart_less_well_than_production_is_refused(self) -> None:
        (reason,) = reasons(rows(0.8), rows(0.4))
        assert "lower than that of c0ffee in production on the same 180 test examples, more than maximum_" in reason

    def test_an_error_rate_is_better_where_it_is_lower(self) -> None:
        asked = Criteria((Criterion("equal_error_rate", maximum=0.05, maximum_regression=0.01),))
        above, higher = reasons(rows(1.3), rows(0.5), asked)
        assert "is above maximum 0.05 of [gate.equal_error_rate]" in above
        assert "higher than that of c0ffee" in higher

    def test_a_model_has_to_be_better_than_the_same_vector_for_every_row(self) -> None:
        chance = Vectors(IDENTITIES, np.random.default_rng(0).normal(0, 1, (180, 8)))
        (reason,) = reasons(chance, criteria=Criteria((Criterion("roc_auc", minimum=0.1),)))
        assert reason.startswith("always answering 'the same vector' is not certainly worse (95 %): roc_auc is 0.")
        assert reason.endswith("against 0.5000")

    def test_vectors_that_are_none_close_the_gate(self) -> None:
        vectors = said(0.5)
        vectors[3], vectors[5] = np.nan, 0
        (reason,) = reasons(Vectors(IDENTITIES, vectors))
        assert reason.startswith("what the exported model predicts for 2 of 180 test examples are no vectors: not fin")

    def test_two_models_are_compared_row_by_row_by_how_their_pairs_are_ranked(self) -> None:
        opponent = PERSON.compare("c0ffee", rows(0.8), rows(1.5), ASKED)
        assert isinstance(opponent.comparison, Paired)
        assert opponent.comparison.examples == 180
        assert opponent.comparison.closer > opponent.comparison.farther
        assert opponent.comparison.p_value < 1e-6
        change = opponent.changes["roc_auc"]
        assert 0 < change.low < change.model - change.other < change.high
        assert Opponent.from_json(json.loads(json.dumps(opponent.to_json()))) == opponent

    def test_a_model_of_another_size_does_the_same_task(self) -> None:
        signature = {"inputs": [{"name": "x", "shape": [None], "dtype": "float32"}]}

        def properties(target: Vector) -> dict[str, Any]:
            return {"signature": signature, "targets": [target.to_json()]}

        assert why_incomparable(properties(Vector("person", 64, "euclidean")), properties(PERSON)) == ""
        assert "another target" in why_incomparable(properties(Vector("face", 8)), properties(PERSON))
        larger = Vectors(IDENTITIES, said(1.5, size=64), "euclidean")
        assert PERSON.compare("c0ffee", rows(1), larger, ASKED).changes


def noted(vectors: NDArray[Any], target: Vector = PERSON) -> Answers:
    labels, scores = target.noted(vectors)
    return Answers(np.array(labels, object), scores)


class TestEvents:
    @pytest.mark.parametrize("size", [8, NOTED, 512])
    def test_a_vector_is_noted_in_so_many_letters_that_its_pairs_can_be_told_again(self, size: int) -> None:
        target = Vector("person", size)
        vectors = said(0.8, size=size)
        answers = noted(vectors, target)
        assert max(map(len, answers.labels)) <= 176
        (observed,) = target.observed(IDENTITIES.astype(object), [answers])
        exact = Vectors(IDENTITIES, vectors).pairs
        kept = 0.01 if size <= NOTED else 5 / np.sqrt(NOTED)
        np.testing.assert_allclose(observed.pairs.scores, exact.scores, atol=kept)

    def test_distances_are_told_as_well(self) -> None:
        target = Vector("person", 8, "euclidean")
        vectors = said(0.8) * 1000
        (observed,) = target.observed(IDENTITIES.astype(object), [noted(vectors, target)])
        exact = Vectors(IDENTITIES, vectors, "euclidean").pairs
        np.testing.assert_allclose(observed.pairs.scores, exact.scores, rtol=0.02, atol=30)

    def test_what_is_no_vector_is_not_compared(self) -> None:
        vectors = said(0.8)[:4]
        vectors[1], vectors[2] = np.inf, 0
        answers = noted(vectors)
        assert PERSON.comparable(answers).tolist() == [True, False, False, True]
        others = Answers(np.array([None, "cat", "", 7], object), np.zeros(4))
        assert not PERSON.comparable(others).any()

    def test_the_score_is_the_similarity_to_the_mean_of_the_validation_split(self) -> None:
        vectors = said(0.8)
        decided = PERSON.decided(IDENTITIES, vectors)
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        mean = unit.mean(axis=0) / np.linalg.norm(unit.mean(axis=0))
        np.testing.assert_allclose(noted(vectors, decided).scores, unit @ mean, atol=1e-4)


class TestGhost:
    def judged(self, ghost: NDArray[Any], live: NDArray[Any], identities: NDArray[Any] = IDENTITIES) -> Clauses:
        """Beside a live model, as the identities came by feedback."""
        here, there = PERSON.observed(identities.astype(object), [noted(ghost), noted(live)])
        clauses = Clauses()
        PERSON.judge(PERSON.compare("c0ffee", here, there, ASKED), ASKED, clauses)
        return clauses

    def test_a_better_one_is_spoken_for(self) -> None:
        found = self.judged(said(0.5), said(1.3))
        assert (found.against, found.open) == ([], [])
        assert found.good[0].startswith("roc_auc is 0.9")

    def test_a_worse_one_is_certainly_worse(self) -> None:
        found = self.judged(said(1.3), said(0.5))
        assert (found.open, found.good) == ([], [])
        assert found.against[0].startswith("roc_auc is 0.")

    def test_the_same_one_in_a_turned_space_is_as_good(self) -> None:
        turned = np.linalg.qr(np.random.default_rng(0).normal(0, 1, (8, 8)))[0]
        found = self.judged(said(0.8) @ turned, said(0.8))
        assert (found.against, found.open) == ([], [])

    def test_identities_that_are_all_different_tell_nothing(self) -> None:
        found = self.judged(said(0.5), said(0.5), np.arange(180).astype(str))
        (clause,) = found.open
        assert clause.endswith("so there are no pairs to judge by: more labels would tell")

    def agreement(self, ghost: NDArray[Any], live: NDArray[Any]) -> Clauses:
        found = PERSON.agreement(noted(live), noted(ghost), np.full(180, None, object))
        assert found is not None
        clauses = Clauses()
        found.judge(ASKED, "no row has a known label", clauses)
        return clauses

    def test_without_identities_the_same_order_of_pairs_is_enough(self) -> None:
        (clause,) = self.agreement(said(0.8), said(0.8)).good
        assert clause == ("their similarities rank 16,110 pairs of 180 rows in the same order: no metric can differ")

    def test_without_identities_another_order_leaves_open_which_is_right(self) -> None:
        (clause,) = self.agreement(said(0.8), said(0.9, seed=7)).open
        assert "with a correlation of 0." in clause
        assert clause.endswith("which of them is right where they differ; no row has a known label")

    def test_a_live_model_with_another_distance_is_not_compared_with(self) -> None:
        assert PERSON.unlike(Vector("person", 64)) == ""
        assert PERSON.unlike(Vector("person", 8, "euclidean")) == "its distance is euclidean, and the ghost's cosine"
        assert PERSON.unlike(Number("person")) == "it predicts values, and the ghost vectors"
