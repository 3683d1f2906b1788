"""The metrics that a model of numbers is judged by, under the names that Keras and scikit-learn use.

In NumPy, because delivery holds no scikit-learn, and with weights, because an interval comes from some hundred
resamples: tests hold every figure against scikit-learn's.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.targets.base import Floats

# Ranges of the true values by which errors are told.
RANGES = 5


@dataclass(frozen=True)
class Numbers:
    """What a model said to rows whose value is known. true, predicted: (rows,); what is not finite is no prediction."""

    true: Floats
    predicted: Floats

    def __len__(self) -> int:
        return len(self.true)

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """(rows,): which have a prediction."""
        return np.isfinite(self.predicted)

    def at(self, rows: NDArray[np.bool_]) -> "Numbers":
        """Some of the rows."""
        return self if rows.all() else Numbers(self.true[rows], self.predicted[rows])

    @cached_property
    def residuals(self) -> Floats:
        """(rows,): predicted - true."""
        return self.predicted - self.true

    @cached_property
    def errors(self) -> Floats:
        """(rows,): absolute errors."""
        return np.abs(self.residuals)

    @cached_property
    def squares(self) -> Floats:
        """(rows,): squared errors."""
        return np.square(self.residuals)

    @cached_property
    def spread(self) -> Floats:
        """(rows,): the true values without their mean, for sums of squares that do not cancel out."""
        return self.true - (self.true.mean() if len(self) else 0.0)

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """(rows,): from the smallest error to the largest."""
        return np.argsort(self.errors, kind="stable")

    def values(self, names: Iterable[str], weights: Floats | None = None) -> dict[str, float]:
        """Metrics by their names, of the rows with a prediction, each counted so many times; NaN where one has none."""
        given = np.ones(len(self)) if weights is None else weights
        if not self.valid.all():
            return self.at(self.valid).values(names, given[self.valid])
        if not given.sum() > 0:
            return dict.fromkeys(names, float("nan"))
        return {name: METRICS[name](self, given) for name in names}

    def constant(self, value: float) -> "Numbers":
        """What always answering this value says to the same rows."""
        return Numbers(self.true, np.full(len(self), value))


def by_truth(rows: Numbers) -> list[dict[str, float]]:
    """By ranges of the true values, up to RANGES of them with about equally many rows: bounds, and how far predictions
    are off, with the sign and without. rows: all with a prediction.
    """
    if not len(rows):
        return []
    edges = np.unique(np.quantile(rows.true, np.linspace(0, 1, RANGES + 1)))
    places = np.clip(np.searchsorted(edges, rows.true, side="left") - 1, 0, max(0, len(edges) - 2))
    return [
        {
            "from": float(edges[place]),
            "to": float(edges[min(place + 1, len(edges) - 1)]),
            "examples": int((places == place).sum()),
            "mean_absolute_error": float(rows.errors[places == place].mean()),
            "bias": float(rows.residuals[places == place].mean()),
        }
        for place in np.unique(places).tolist()
    ]


def numbers(true: NDArray[np.floating], predicted: NDArray[np.floating]) -> Numbers:
    """Of values and predictions (rows,) or (rows, 1)."""
    return Numbers(true.astype(np.float64).reshape(-1), predicted.astype(np.float64).reshape(-1))


def _mean_absolute_error(rows: Numbers, weights: Floats) -> float:
    return float(weights @ rows.errors / weights.sum())


def _mean_squared_error(rows: Numbers, weights: Floats) -> float:
    return float(weights @ rows.squares / weights.sum())


def _root_mean_squared_error(rows: Numbers, weights: Floats) -> float:
    return float(np.sqrt(_mean_squared_error(rows, weights)))


def _median_absolute_error(rows: Numbers, weights: Floats) -> float:
    """With whole weights the median of the rows so many times, as scikit-learn takes it."""
    below = np.cumsum(weights[rows.order])
    half = below[-1] / 2
    sorted_errors = rows.errors[rows.order]
    lower = sorted_errors[np.searchsorted(below, half, side="left")]
    upper = sorted_errors[min(len(below) - 1, np.searchsorted(below, half, side="right"))]
    return float((lower + upper) / 2)


def _r2_score(rows: Numbers, weights: Floats) -> float:
    """NaN where all true values are the same: scikit-learn says 0 or 1 then, which a mean would not do better than."""
    total = weights.sum()
    varied = weights @ np.square(rows.spread) - (weights @ rows.spread) ** 2 / total
    return float(1 - weights @ rows.squares / varied) if varied > 0 else float("nan")


METRICS: Mapping[str, Callable[[Numbers, Floats], float]] = {
    "mean_absolute_error": _mean_absolute_error,
    "median_absolute_error": _median_absolute_error,
    "mean_squared_error": _mean_squared_error,
    "root_mean_squared_error": _root_mean_squared_error,
    "r2_score": _r2_score,
}
