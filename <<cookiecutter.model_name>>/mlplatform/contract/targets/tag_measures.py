"""The metrics that a model of tags is judged by, under scikit-learn's names: its averages over tags and over rows.

In NumPy, because delivery holds no scikit-learn, and with weights, because an interval comes from some hundred
resamples: tests hold every figure against scikit-learn's.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.targets.figures import (
    OF_LABEL,
    ByLabel,
    Figures,
    Floats,
    OfLabel,
    Ranks,
    Whole,
    by_support,
    macro,
    mean,
    ranked,
    ratio,
    steps,
)

Mask = NDArray[np.bool_]

# Probabilities whose order is kept for the resamples: 80 MB. Of more it is worked out each time.
KEPT_RANKS = 10_000_000


@dataclass(frozen=True)
class TagRows:
    """What a model said to rows whose tags are known.

    true, said: (rows, tags). valid: (rows,), which have a prediction; what is none is wrong in every tag.
    probabilities: (rows, tags), or None if only the tags said are known.
    """

    labels: tuple[str, ...]
    true: Mask
    said: Mask
    valid: Mask
    probabilities: Floats | None = None

    def __len__(self) -> int:
        return len(self.true)

    @cached_property
    def counts(self) -> Whole:
        """(tags,): rows that have each."""
        return np.asarray(self.true.sum(axis=0), np.int64)

    @cached_property
    def exact(self) -> Mask:
        """(rows,): whether the tags said are the true ones, all of them and no other."""
        return np.asarray((self.true == self.said).all(axis=1))

    @cached_property
    def wrong(self) -> Whole:
        """(rows,): tags that are said and not true, or true and not said."""
        return np.asarray((self.true != self.said).sum(axis=1), np.int64)

    @cached_property
    def places(self) -> tuple[tuple[NDArray[np.intp], ...], ...]:
        """Row and tag of each one that is true, said, and both: far fewer than there are cells."""
        return tuple(np.nonzero(cells) for cells in (self.true, self.said, self.true & self.said))

    def of_every_tag(self) -> Floats:
        """The probabilities. Raises ValueError if only the tags said are known."""
        if self.probabilities is None:
            raise ValueError("only the tags said to these rows are known")
        return self.probabilities

    def ranks(self, tag: int) -> Ranks:
        """Of the probability of a tag."""
        if tag in self._ranks:
            return self._ranks[tag]
        ranks = ranked(self.of_every_tag()[:, tag])
        if self.of_every_tag().size <= KEPT_RANKS:
            self._ranks[tag] = ranks
        return ranks

    def always(self, tags: Mask) -> "TagRows":
        """What always saying these tags (tags,) says to the same rows; its probabilities are the shares."""
        shares = self.counts / max(1, len(self))
        probabilities = None if self.probabilities is None else np.broadcast_to(shares, self.true.shape)
        said = np.broadcast_to(tags, self.true.shape)
        return TagRows(self.labels, self.true, said, np.ones(len(self), bool), probabilities)

    def values(self, names: Iterable[str], weights: Floats | None = None) -> dict[str, float]:
        """Metrics by their names, with each row counted so many times; NaN where one would divide by zero.

        Raises ValueError for one that takes probabilities that are not known.
        """
        weighted = Weighted(self, weights)
        return {name: FIGURES.value(weighted, name, self.labels) for name in names}

    @cached_property
    def _ranks(self) -> dict[int, Ranks]:
        return {}


class Weighted(ByLabel):
    """Rows that count so many times. weights: (rows,); None: each once."""

    def __init__(self, rows: TagRows, weights: Floats | None = None) -> None:
        self.rows = rows
        self.weights = np.ones(len(rows)) if weights is None else weights
        self._present, self._said, self._hits = (
            np.bincount(tag, self.weights[row], len(rows.labels)).astype(np.float64) for row, tag in rows.places
        )

    @property
    def hits(self) -> Floats:
        """See ByLabel."""
        return self._hits

    @property
    def present(self) -> Floats:
        """See ByLabel."""
        return self._present

    @property
    def said(self) -> Floats:
        """See ByLabel."""
        return self._said

    def steps(self, label: int) -> tuple[Floats, Floats]:
        """See ByLabel."""
        return steps(self.rows.ranks(label), self.rows.true[:, label], self.weights)


def of_predictions(
    labels: Sequence[str], true: NDArray[Any], probabilities: NDArray[np.float32], thresholds: Floats
) -> TagRows:
    """Of probabilities (rows, tags) of rows whose tags (rows, tags) are known. thresholds: (tags,).

    A row with a value that is not between 0 and 1 has no prediction.
    """
    with np.errstate(invalid="ignore"):
        valid = np.asarray(((probabilities >= 0) & (probabilities <= 1)).all(axis=1))
    present = true.astype(bool)
    clean = np.where(valid[:, None], probabilities, ~present).astype(np.float64)
    said = np.where(valid[:, None], clean >= thresholds, ~present)
    return TagRows(tuple(labels), present, said, valid, clean)


def best_threshold(is_tag: Mask, probabilities: Floats) -> float | None:
    """The threshold with the highest F1 on some rows, the highest of several; None if no row has the tag.

    It lies in the middle between two probabilities, so that rounding changes nothing. is_tag, probabilities: (rows,).
    """
    if not is_tag.any():
        return None
    order, begins = ranks = ranked(probabilities)
    positive, negative = steps(ranks, is_tag, np.ones(len(is_tag)))
    found, said = np.cumsum(positive), np.cumsum(positive + negative)
    best = int(np.argmax(2 * found / (said + positive.sum())))
    scores = probabilities[order][begins]
    below = scores[best + 1] if best + 1 < len(scores) else 0.0
    return float(scores[best] + below) / 2


def _micro_f1(rows: Weighted) -> float:
    return ratio(2 * rows.hits.sum(), rows.said.sum() + rows.present.sum())


def _subset_accuracy(rows: Weighted) -> float:
    return ratio(rows.weights @ rows.rows.exact, rows.weights.sum())


def _hamming_loss(rows: Weighted) -> float:
    return ratio(rows.weights @ rows.rows.wrong, rows.weights.sum() * len(rows.rows.labels))


def _over_tags(of_tag: OfLabel) -> Callable[[Weighted], float]:
    """The mean over the tags that have a figure."""
    return lambda rows: mean(np.array([of_tag(rows, tag) for tag in range(len(rows.rows.labels))]))


FIGURES = Figures[Weighted](
    {
        "macro_f1": macro(lambda rows: rows.f1),
        "micro_f1": _micro_f1,
        "subset_accuracy": _subset_accuracy,
        "hamming_loss": _hamming_loss,
        "average_precision": _over_tags(OF_LABEL["average_precision"]),
        "roc_auc": _over_tags(OF_LABEL["roc_auc"]),
        "macro_precision": macro(lambda rows: rows.precision),
        "macro_recall": macro(lambda rows: rows.recall),
        "weighted_f1": by_support(lambda rows: rows.f1),
    }
)


def listed(rows: TagRows) -> dict[str, float | None]:
    """See Figures."""
    return FIGURES.listed(Weighted(rows), rows.probabilities is not None)


def of_tags(rows: TagRows) -> dict[str, dict[str, float | None]]:
    """By tag its metrics; see Figures."""
    return FIGURES.of_each(Weighted(rows), rows.labels)
