"""Arithmetic that the metrics of several kinds of target share. Of nothing there is no figure: NaN."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

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
