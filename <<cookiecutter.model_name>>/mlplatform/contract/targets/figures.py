"""Arithmetic that the metrics of several kinds of target share. Of nothing there is no figure: NaN."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.metrics import METRICS, split_name

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
Ranks = tuple[Whole, Whole]
"""Rows from the highest score down, and where each group of the same score begins."""


def ranked(scores: Floats) -> Ranks:
    """The ranks of scores (rows,)."""
    order = np.argsort(-scores, kind="stable")
    return order, np.flatnonzero(np.diff(scores[order], prepend=np.inf))


def steps(ranks: Ranks, is_positive: NDArray[np.bool_], weights: Floats) -> tuple[Floats, Floats]:
    """Weight of the positive rows and of the others, by groups of the same score, the highest first.

    is_positive, weights: (rows,).
    """
    order, begins = ranks
    ordered = weights[order]
    positive = ordered * is_positive[order]
    if len(begins) == len(order):
        return positive, ordered - positive
    return np.add.reduceat(positive, begins), np.add.reduceat(ordered - positive, begins)


def roc_auc(positive: Floats, negative: Floats) -> float:
    """Area under the ROC curve, ties counted half, from `steps`; NaN if either has no row.

    The probability that a positive row has the higher score: Hanley and McNeil (1982), Radiology 143, 29.
    """
    below = negative.sum() - np.cumsum(negative)
    return ratio((positive * (below + negative / 2)).sum(), positive.sum() * negative.sum())


def average_precision(positive: Floats, negative: Floats) -> float:
    """The mean of the precision at each threshold, weighted by the recall that it adds, from `steps`; NaN without a
    positive row.
    """
    found, said = np.cumsum(positive), np.cumsum(positive + negative)
    return ratio((positive * np.divide(found, said, out=np.zeros_like(said), where=said > 0)).sum(), found[-1])


def divide(part: Floats, whole: Floats) -> Floats:
    """Element by element, NaN where the whole is nothing."""
    divided: Floats = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return divided


def ratio(part: Any, whole: Any) -> float:
    """NaN where the whole is nothing."""
    return float(part / whole) if whole > 0 else float("nan")


def mean(values: Floats) -> float:
    """Of those that are a number; NaN without any."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def none_if_nan(number: float) -> float | None:
    """JSON has no NaN."""
    return float(number) if np.isfinite(number) else None


class ByLabel(ABC):
    """Rows that count so many times, by the labels that they have and that are said to them."""

    @property
    @abstractmethod
    def hits(self) -> Floats:
        """(labels,): rows that have a label and to which it is said."""

    @property
    @abstractmethod
    def present(self) -> Floats:
        """(labels,): rows that have a label."""

    @property
    @abstractmethod
    def said(self) -> Floats:
        """(labels,): rows to which a label is said."""

    @abstractmethod
    def steps(self, label: int) -> tuple[Floats, Floats]:
        """Of the probability of a label; see `steps`."""

    @cached_property
    def recall(self) -> Floats:
        """(labels,): NaN for a label that does not occur."""
        return divide(self.hits, self.present)

    @cached_property
    def precision(self) -> Floats:
        """(labels,): NaN for a label that is never said."""
        return divide(self.hits, self.said)

    @cached_property
    def f1(self) -> Floats:
        """(labels,): 2PR / (P + R) in a form that is defined also where one of them is not; NaN where both are not."""
        return divide(2 * self.hits, self.said + self.present)


R = TypeVar("R", bound=ByLabel)
OfLabel = Callable[[ByLabel, int], float]

OF_LABEL: Mapping[str, OfLabel] = {
    "precision": lambda rows, label: float(rows.precision[label]),
    "recall": lambda rows, label: float(rows.recall[label]),
    "f1": lambda rows, label: float(rows.f1[label]),
    "roc_auc": lambda rows, label: roc_auc(*rows.steps(label)),
    "average_precision": lambda rows, label: average_precision(*rows.steps(label)),
}
"""The metrics of one label against the others, by name."""


def macro(of: Callable[[ByLabel], Floats]) -> Callable[[ByLabel], float]:
    """The mean over the labels that rows have or that are said, 0 where it would divide by zero."""

    def figure(rows: ByLabel) -> float:
        occurs = np.flatnonzero(rows.present + rows.said)
        return mean(np.nan_to_num(of(rows))[occurs])

    return figure


def by_support(of: Callable[[ByLabel], Floats]) -> Callable[[ByLabel], float]:
    """The mean over the labels, weighted by how many rows have each."""
    return lambda rows: ratio((np.nan_to_num(of(rows)) * rows.present).sum(), rows.present.sum())


@dataclass(frozen=True)
class Figures(Generic[R]):
    """The metrics of a kind of target that has labels. whole: of all labels together, by name."""

    whole: Mapping[str, Callable[[R], float]]

    def value(self, rows: R, name: str, labels: Sequence[str]) -> float:
        """A metric, by its name: `macro_f1`, or `recall.fraud` for one label. NaN where it would divide by zero.

        Raises KeyError if there is no such metric, and ValueError if it takes probabilities that are not known.
        """
        metric, label = split_name(name)
        return self.whole[metric](rows) if label is None else OF_LABEL[metric](rows, labels.index(label))

    def listed(self, rows: R, with_probabilities: bool) -> dict[str, float | None]:
        """All metrics of all labels together that there are, None where one would divide by zero."""
        return {
            name: none_if_nan(figure(rows))
            for name, figure in self.whole.items()
            if with_probabilities or not METRICS[name].probabilities
        }

    def of_each(self, rows: R, labels: Sequence[str]) -> dict[str, dict[str, float | None]]:
        """By label its metrics by name, None where one would divide by zero. The probabilities have to be known."""
        return {
            label: {name: none_if_nan(figure(rows, place)) for name, figure in OF_LABEL.items()}
            for place, label in enumerate(labels)
        }
