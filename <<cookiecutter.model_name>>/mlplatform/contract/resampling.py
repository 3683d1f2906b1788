"""Metrics with their intervals, by drawing rows again: the percentile bootstrap of Efron (1979), Ann. Statist. 7, 1."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.comparison import CONFIDENCE, Change
from mlplatform.contract.metrics import METRICS, split_name

Floats = NDArray[np.float64]

# 500 resamples give an interval to within 3 % of its width. Of more rows than these, fewer resamples do.
RESAMPLES = 500
LEAST_RESAMPLES = 100
RESAMPLED_ROWS = 5_000_000


class Rows(Protocol):
    """What a model said to rows whose truth is known."""

    def __len__(self) -> int: ...

    def values(self, names: Iterable[str], weights: Floats | None = None) -> Mapping[str, float]:
        """Metrics by their names, NaN where they have no value. weights: (rows,), how often each counts; None: once."""
        ...


def changes(model: Rows, other: Rows, names: Iterable[str]) -> dict[str, Change]:
    """Metrics of two models on the same rows, with the interval of each difference.

    Rows are drawn again with both models' answers. A resample in which a metric has no value, as no row of its class
    was drawn, says nothing about it. Metrics that have none at all are left out.
    """
    names = list(names)
    here, there = model.values(names), other.values(names)
    known = [name for name in names if np.isfinite(here[name]) and np.isfinite(there[name])]
    drawn: dict[str, list[float]] = {name: [] for name in known}
    for weights in resamples(len(model)) if known else ():
        ours, theirs = model.values(known, weights), other.values(known, weights)
        for name, differences in drawn.items():
            differences.append(ours[name] - theirs[name])
    return {
        name: Change(name, here[name], there[name], *_bounds(figures), METRICS[split_name(name)[0]].higher_is_better)
        for name, figures in drawn.items()
    }


def intervals(model: Rows, names: Iterable[str]) -> dict[str, tuple[float, float, float]]:
    """By metric the low end, the value and the high end, with 95 % confidence; as in `changes`, of one model."""
    values = {name: value for name, value in model.values(list(names)).items() if np.isfinite(value)}
    drawn: dict[str, list[float]] = {name: [] for name in values}
    for weights in resamples(len(model)) if values else ():
        figures = model.values(values, weights)
        for name, some in drawn.items():
            some.append(figures[name])
    return {name: (bounds[0], values[name], bounds[1]) for name, some in drawn.items() for bounds in [_bounds(some)]}


def described(model: Rows, names: Iterable[str]) -> dict[str, dict[str, float]]:
    """The intervals as a manifest holds them: by metric `low` and `high`."""
    return {name: {"low": low, "high": high} for name, (low, _, high) in intervals(model, names).items()}


def resamples(rows: int) -> Iterator[Floats]:
    """How often each row is drawn, (rows,), again and again."""
    generator = np.random.default_rng(0)
    for _ in range(int(np.clip(RESAMPLED_ROWS // max(1, rows), LEAST_RESAMPLES, RESAMPLES))):
        yield np.bincount(generator.integers(0, rows, rows), minlength=rows).astype(np.float64)


def _bounds(drawn: Sequence[float]) -> tuple[float, float]:
    """The percentiles between which 95 % of what has a value lies."""
    finite = np.array(drawn)[np.isfinite(drawn)]
    if not len(finite):
        return -1.0, 1.0
    low, high = np.quantile(finite, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
