"""What follows for a model of classes from how often it is right: against production, and beside the live model."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mlplatform.contract.comparison import SIGNIFICANCE, Comparison, Share
from mlplatform.contract.criteria import DEFAULT, Criteria
from mlplatform.contract.targets.base import Agreement, Objects
from mlplatform.contract.targets.clauses import Clauses, apart, signed

# Classes named in one reason.
NAMED = 10


@dataclass(frozen=True)
class Disagreement:
    """What both say where they differ, for how many rows, and how often each is right of those whose label is known."""

    live: str
    ghost: str
    rows: int
    known: int
    live_right: int
    ghost_right: int


@dataclass(frozen=True)
class LabelAgreement(Agreement):
    """How often two models predict the same label. by_label: of the rows where the live model says it."""

    share: Share
    by_label: Mapping[str, Share]
    disagreements: tuple[Disagreement, ...]

    @classmethod
    def of(cls, live: Objects, ghost: Objects, truth: Objects) -> "LabelAgreement":
        """From the labels of both, and the true ones or None."""
        same = np.asarray(live == ghost, bool)
        by_label = {
            label: Share(int((ghost[live == label] == label).sum()), int((live == label).sum()))
            for label in sorted({*live})
        }
        return cls(Share(int(same.sum()), len(same)), by_label, disagreements(live, ghost, truth))

    def to_json(self) -> dict[str, Any]:
        """See the base."""
        return {
            "agreement": self.share.to_json(),
            "agreement_by_label": {label: share.to_json() for label, share in self.by_label.items()},
            "disagreements": [asdict(disagreement) for disagreement in self.disagreements],
        }

    def in_words(self) -> str:
        """See the base."""
        return f"agreement {100 * self.share.value:.1f} %"

    def judge(self, criteria: Criteria, clause: str, clauses: Clauses) -> None:
        """Models that agree in a share a of the rows cannot differ in accuracy by more than 1 - a."""
        share = self.share
        lowest = share.interval().low
        same = f"both predict the same label for {share.value:.2%} of {share.total:,} rows"
        agreed = f"{same} (95 %: at least {lowest:.2%})"
        margin = recall_margin(criteria)
        apart_there = {label: there for label, there in self.by_label.items() if there.interval().high < 1 - margin}
        others = [row.metric for row in criteria.judged if row.metric != "accuracy"]
        if 1 - lowest > (margin if (limit := criteria.margin("accuracy")) is None else limit):
            clauses.open.append(f"{agreed}, which leaves open which of them is right where they differ; {clause}")
        elif apart_there:
            told = [
                f"for {there.hits} of {there.total} that are {label!r} to it" for label, there in apart_there.items()
            ]
            clauses.open.append(
                f"{agreed}, but not where it matters to the live model: {', '.join(told[:5])}; {clause}"
            )
        elif others and share.hits < share.total:
            clauses.open.append(f"{agreed}, which does not tell {', '.join(others)}; {clause}")
        else:
            clauses.good.append(f"{agreed}: their accuracy cannot differ by more than maximum_regression")


def recall_margin(criteria: Criteria) -> float:
    """How much recall any class may certainly lose: maximum_regression of [gate.recall], of accuracy, or 0.01."""
    for metric in ("recall", "accuracy"):
        if (margin := criteria.margin(metric)) is not None:
            return margin
    return DEFAULT.maximum_regression or 0.0


def lost_recall(classes: Mapping[str, Comparison], margin: float) -> dict[str, Comparison]:
    """The classes whose recall is certainly lower than the other model's, and by more than a margin.

    Certain: the upper end of Tango's score interval is below 0, at a one-sided 95 % for all classes together, which is
    1 - 5 % / classes for each (Bonferroni).
    """
    confidence = 1 - 2 * SIGNIFICANCE / max(1, len(classes))
    return {
        label: counted
        for label, counted in classes.items()
        if -counted.difference > margin and counted.score_interval(confidence).high < 0
    }


def recall_lost(lost: Mapping[str, Comparison], rows: str) -> str:
    """The classes of `lost_recall` in a clause. rows: what is counted, such as `test examples`."""
    told = [
        f"of {label!r} it finds {counted.both + counted.only_model} and {counted.production} "
        f"{counted.both + counted.only_production} of {counted.examples} {rows}"
        for label, counted in list(lost.items())[:NAMED]
    ]
    more = f", and {len(lost) - NAMED} more classes" if len(lost) > NAMED else ""
    return f"recall is certainly lost (95 % over all classes): {', '.join(told)}{more}"


def accuracy_lost(comparison: Comparison, margin: float) -> Iterator[str]:
    """Why the gate is closed by an accuracy that is lower than production's, if it is."""
    loss = -comparison.difference
    if loss <= 0:
        return
    lost = (
        f"accuracy is {apart(loss, margin)} lower than that of {comparison.production} in production on the same "
        f"{comparison.examples} test examples"
    )
    worst = -comparison.interval().low
    p_value = comparison.p_value()
    if loss > margin:
        yield f"{lost}, more than maximum_regression {margin:g}"
    elif p_value < SIGNIFICANCE and worst > margin:
        yield (
            f"{lost}, which is no chance (McNemar's exact test, p = {p_value:.2g}) and may really be "
            f"{apart(worst, margin)}, more than maximum_regression {margin:g}"
        )


def judge_accuracy(comparison: Comparison, margin: float, clauses: Clauses) -> None:
    """A ghost's accuracy beside the live model's, by McNemar's exact test."""
    difference, interval, p_value = comparison.difference, comparison.score_interval(), comparison.p_value()
    clause = f"accuracy is {_points(difference)} on {comparison.examples:,} rows with a known label"
    test = f"95 %: {signed(interval.low)} to {signed(interval.high)}; McNemar's exact test, p = {p_value:.2g}"
    if difference < 0 and p_value < SIGNIFICANCE and (-difference > margin or -interval.low > margin):
        clauses.against.append(f"{clause} ({test})")
    elif -interval.low > margin:
        clauses.open.append(
            f"{clause}, and may really be {signed(interval.low)}, more than maximum_regression {margin:g} ({test}): "
            "more labels would tell"
        )
    else:
        clauses.good.append(f"{clause} ({test})")


def disagreements(live: Objects, ghost: Objects, truth: Objects) -> tuple[Disagreement, ...]:
    """Of the rows to which both give another label, the most frequent pairs first. All (rows,); truth: or None."""
    counted: dict[tuple[str, str], list[int]] = {}
    for one, other, true in zip(live, ghost, truth, strict=True):
        if one != other:
            numbers = counted.setdefault((one, other), [0, 0, 0, 0])
            numbers[0] += 1
            numbers[1] += true is not None
            numbers[2] += true == one
            numbers[3] += true == other
    ordered = sorted(counted.items(), key=lambda item: -item[1][0])
    return tuple(Disagreement(*pair, *numbers) for pair, numbers in ordered)


def _points(difference: float) -> str:
    if difference == 0:
        return "the same"
    return f"{abs(difference):.4f} {'higher' if difference > 0 else 'lower'}"
