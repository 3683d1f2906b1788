"""The metrics of vectors: verification, which asks of two rows whether they are of one identity.

A pair of rows is accepted from a similarity on. The share of the pairs of one identity that are is the true accept rate
(TAR), that of the others the false accept rate (FAR); ISO/IEC 19795-1 has the terms. In NumPy, because delivery holds
no scikit-learn, and with weights, because an interval comes from some hundred resamples.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.targets.base import Array, Floats
from mlplatform.contract.targets.figures import Ranks, Whole, divide, ranked, ratio, roc_auc, steps

COSINE, EUCLIDEAN = "cosine", "euclidean"
DISTANCES = (COSINE, EUCLIDEAN)
# The false accept rate at which the true accept rate is measured.
FALSE_ACCEPTS = 0.01
# Pairs of one identity, and pairs of two, at most: with so many a false accept rate of 1 % is one of 500 pairs.
PAIRS = 50_000
# Pairs whose similarity is computed at a time: bounds memory.
AT_A_TIME = 8192


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows that both have a vector, and how similar those are.

    first, second: (pairs,), indices of rows. same: (pairs,), whether they are of one identity. scores: (pairs,), the
    similarities. codes: (rows,), the identities of all rows, 0 to identities - 1.

    Intervals draw identities again, each with all of its rows, since pairs that share one are not independent (the
    subsets bootstrap: Bolle, Ratha and Pankanti (2004), Computer Vision and Image Understanding 93, 1).
    """

    first: Whole
    second: Whole
    same: NDArray[np.bool_]
    scores: Floats
    codes: Whole
    identities: int

    def __len__(self) -> int:
        """What is drawn again: the identities."""
        return self.identities

    @cached_property
    def ranks(self) -> Ranks:
        """See figures.ranked."""
        return ranked(self.scores)

    def steps(self, weights: Floats | None = None) -> tuple[Floats, Floats]:
        """See figures.steps. weights: (identities,), how often each was drawn.

        A pair of two identities is there as often as they meet; one of one identity as often as that was drawn. Two
        draws of one identity do not meet: they would be a pair of two identities with the same rows.
        """
        if weights is None:
            return steps(self.ranks, self.same, np.ones(len(self.scores)))
        one, other = self._identities
        drawn = weights[one]
        return steps(self.ranks, self.same, np.where(self.same, drawn, drawn * weights[other]))

    @cached_property
    def _identities(self) -> tuple[Whole, Whole]:
        """(pairs,): the codes of both rows."""
        return self.codes[self.first], self.codes[self.second]

    def values(self, names: Iterable[str], weights: Floats | None = None) -> dict[str, float]:
        """Metrics by their names; NaN where there are no pairs of one identity, or none of two."""
        if not len(self.scores):
            return dict.fromkeys(names, float("nan"))
        accepted, wrongly = self.steps(weights)
        return {name: METRICS[name](accepted, wrongly) for name in names}

    def constant(self) -> "Pairs":
        """What a model that gives every row the same vector says to the same pairs."""
        return replace(self, scores=np.zeros(len(self.scores)))

    @property
    def counts(self) -> dict[str, int]:
        """`same`: pairs of one identity; `different`: of two."""
        same = int(self.same.sum())
        return {"same": same, "different": len(self.same) - same}

    @property
    def both(self) -> bool:
        """Whether there are pairs of either kind, without which there is no figure."""
        return all(self.counts.values())

    def threshold(self) -> float | None:
        """The lowest similarity from which on no more than FALSE_ACCEPTS of the pairs of two identities are accepted;
        None without such pairs, or if there is none.
        """
        if not self.both:
            return None
        order, begins = self.ranks
        allowed = np.flatnonzero(_shares(self.steps()[1]) <= FALSE_ACCEPTS)
        return float(self.scores[order][begins][allowed[-1]]) if len(allowed) else None

    def accepted(self, threshold: float) -> dict[str, float]:
        """`true_accept_rate` and `false_accept_rate` of a threshold."""
        from_there = self.scores >= threshold
        return {
            "true_accept_rate": ratio((from_there & self.same).sum(), self.same.sum()),
            "false_accept_rate": ratio((from_there & ~self.same).sum(), (~self.same).sum()),
        }

    def errors(self) -> Floats:
        """(rows,): how far the pairs of a row are ranked wrongly, 0 to 1; NaN of a row without pairs.

        Of a pair it is the share of the pairs of the other kind that are on its wrong side, equal ones by half: the
        placements of DeLong, DeLong and Clarke-Pearson (1988), Biometrics 44, 837. Of a row the mean over its pairs of
        one identity and that over its others, which count alike.
        """
        wrong = np.empty(len(self.scores))
        for kind, sign in ((self.same, 1.0), (~self.same, -1.0)):
            others = np.sort(sign * self.scores[~kind])
            own = sign * self.scores[kind]
            below = np.searchsorted(others, own, "left") + np.searchsorted(others, own, "right")
            wrong[kind] = 1 - below / (2 * max(1, len(others)))
        means = np.array([self._by_row(wrong, kind) for kind in (self.same, ~self.same)])
        sums: Floats = np.nan_to_num(means).sum(axis=0).astype(np.float64)
        return divide(sums, np.isfinite(means).sum(axis=0).astype(np.float64))

    def _by_row(self, values: Floats, pairs: NDArray[np.bool_]) -> Floats:
        """(rows,): the mean over those of some pairs that a row is in; NaN without one."""
        rows = np.concatenate([self.first[pairs], self.second[pairs]])
        sums = np.bincount(rows, np.tile(values[pairs], 2), len(self.codes)).astype(np.float64)
        often = np.bincount(rows, minlength=len(self.codes)).astype(np.float64)
        return divide(sums, often)


@dataclass(frozen=True)
class Vectors:
    """What a model said to rows whose identity is known. identities: (rows,); vectors: (rows, size); distance: of
    DISTANCES. threshold: from which similarity on two rows are said to be of one identity; None: not chosen.
    """

    identities: Array
    vectors: Array
    distance: str = COSINE
    threshold: float | None = None

    def __len__(self) -> int:
        return len(self.identities)

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """(rows,): which have a vector: finite, and with a direction where the cosine is asked for."""
        return valid(self.vectors, self.distance)

    def at(self, rows: NDArray[np.bool_]) -> "Vectors":
        """Some of the rows."""
        return self if rows.all() else replace(self, identities=self.identities[rows], vectors=self.vectors[rows])

    @cached_property
    def pairs(self) -> Pairs:
        """All pairs of the rows that have a vector, or PAIRS of either kind: which ones follows from the identities
        alone, so that two models are held against each other by the same.
        """
        if not self.valid.all():
            own = self.at(self.valid).pairs
            rows = np.flatnonzero(self.valid)
            codes = np.zeros(len(self), np.int64)
            codes[rows] = own.codes
            return replace(own, first=rows[own.first], second=rows[own.second], codes=codes)
        known, codes = np.unique(self.identities, return_inverse=True)
        order = np.argsort(codes, kind="stable")
        # Where the rows of the next identity begin, for each row in the order of identities.
        ends = np.searchsorted(codes[order], codes[order], side="right")
        here = np.arange(len(order))
        generator = np.random.default_rng(0)
        drawn = [
            _drawn(here + 1, ends - here - 1, generator),
            _drawn(ends, len(order) - ends, generator),
        ]
        first, second = (order[np.concatenate([pair[place] for pair in drawn])] for place in (0, 1))
        same = np.repeat([True, False], [len(pair[0]) for pair in drawn])
        scores = similarities(self.vectors, first, second, self.distance)
        return Pairs(first, second, same, scores, codes.reshape(-1), len(known))


def valid(vectors: Array, distance: str) -> NDArray[np.bool_]:
    """(rows,): which of the vectors (rows, size) are some."""
    finite = np.asarray(np.isfinite(vectors).all(axis=1), bool)
    return finite & np.asarray((vectors != 0).any(axis=1), bool) if distance == COSINE else finite


def similarities(vectors: Array, first: Whole, second: Whole, distance: str) -> Floats:
    """(pairs,): how similar the vectors (rows, size) of two rows are: their cosine, or less their distance."""
    wide = normalised(vectors) if distance == COSINE else vectors.astype(np.float64)
    scores = np.empty(len(first))
    for at in range(0, len(first), AT_A_TIME):
        one, other = wide[first[at : at + AT_A_TIME]], wide[second[at : at + AT_A_TIME]]
        if distance == COSINE:
            scores[at : at + AT_A_TIME] = np.einsum("ij,ij->i", one, other)
        else:
            scores[at : at + AT_A_TIME] = -np.linalg.norm(one - other, axis=1)
    return scores


def normalised(vectors: Array) -> Floats:
    """The vectors (rows, size) with a length of 1; of 0 as they are."""
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.asarray(wide / np.where(lengths > 0, lengths, 1))


def rates(pairs: Pairs) -> tuple[Floats, Floats]:
    """(thresholds,): FAR and TAR from the highest similarity down, from 0 to 1: the ROC curve."""
    accepted, wrongly = pairs.steps()
    return _from_nothing(wrongly), _from_nothing(accepted)


def _drawn(begins: Whole, counts: Whole, generator: np.random.Generator) -> tuple[Whole, Whole]:
    """Up to PAIRS pairs, each at most once, of row i with one of the `counts[i]` rows from `begins[i]` on."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    places = np.arange(total) if total <= PAIRS else np.unique(generator.integers(0, total, PAIRS))
    first = np.searchsorted(ends, places, side="right")
    return first, begins[first] + places - (ends[first] - counts[first])


def _shares(weights: Floats) -> Floats:
    """(thresholds,): the share that is accepted from each on."""
    total = np.cumsum(weights)
    return total / total[-1] if len(total) and total[-1] > 0 else np.full(len(total), np.nan)


def _from_nothing(weights: Floats) -> Floats:
    return np.concatenate([[0.0], _shares(weights)])


def _equal_error_rate(accepted: Floats, wrongly: Floats) -> float:
    """Where FAR and the share of the pairs of one identity that are refused are the same, on the straight lines
    between the thresholds.
    """
    false, refused = _from_nothing(wrongly), 1 - _from_nothing(accepted)
    gap = false - refused
    if not np.isfinite(gap[-1]):
        return float("nan")
    after = int(np.argmax(gap >= 0))
    share = -gap[after - 1] / (gap[after] - gap[after - 1])
    return float(false[after - 1] + share * (false[after] - false[after - 1]))


def _true_accept_rate(accepted: Floats, wrongly: Floats) -> float:
    """The highest TAR with a FAR of no more than FALSE_ACCEPTS."""
    false, true = _from_nothing(wrongly), _from_nothing(accepted)
    return float(true[false <= FALSE_ACCEPTS][-1]) if np.isfinite(false[-1]) and np.isfinite(true[-1]) else float("nan")


METRICS: Mapping[str, Callable[[Floats, Floats], float]] = {
    "roc_auc": roc_auc,
    "equal_error_rate": _equal_error_rate,
    "true_accept_rate": _true_accept_rate,
}
"""By name, from `Pairs.steps`."""
