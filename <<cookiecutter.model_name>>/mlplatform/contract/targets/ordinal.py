"""Ordinal: one label out of a list that has an order, such as grades; the farther off a prediction is, the worse."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.comparison import Constant, Opponent
from mlplatform.contract.criteria import Criteria, Criterion
from mlplatform.contract.resampling import changes, described
from mlplatform.contract.targets import class_measures
from mlplatform.contract.targets.base import Answers, Array, Floats, Objects
from mlplatform.contract.targets.class_measures import Sample, Weighted
from mlplatform.contract.targets.classes import Classes
from mlplatform.contract.targets.figures import none_if_nan, ratio


@dataclass(frozen=True)
class Levels(Sample):
    """A sample whose labels have an order. A row without a prediction is as far off as can be."""

    def values(self, names: Iterable[str], weights: Floats | None = None) -> dict[str, float]:
        """See Sample; also those of METRICS here."""
        weighted = Weighted(self, weights)
        return {
            name: METRICS[name](weighted) if name in METRICS else class_measures.value(weighted, name) for name in names
        }


@dataclass(frozen=True, init=False)
class Ordinal(Classes):
    """One label out of `labels`, given from the lowest to the highest; the model gives their `probabilities`."""

    kind = "ordinal"
    default = Criterion("quadratic_kappa", minimum=0.6, maximum_regression=0.02)
    predictions = "probabilities of levels"
    headline = "mean_level_error"

    def in_words(self, metrics: Mapping[str, Any]) -> str:
        """See the base."""
        return f"mean error of {metrics['mean_level_error']:.3f} levels"

    def said(self, metrics: Mapping[str, Any]) -> str:
        """See the base."""
        interval = metrics["intervals"]["mean_level_error"]
        return (
            f"{self.in_words(metrics)}, between {interval['low']:.3f} and {interval['high']:.3f} with 95 % confidence"
        )

    def rows(self, truth: Array, predictions: NDArray[np.float32]) -> Levels:
        """See the base."""
        return _levels(super().rows(truth, predictions))

    def metrics(self, rows: Sample) -> dict[str, Any]:
        """Those of Classes, `quadratic_kappa` and `mean_level_error`, and `intervals` of these (95 %)."""
        values = {name: none_if_nan(value) for name, value in rows.values(METRICS).items()}
        return {
            **values,
            **super().metrics(rows),
            "intervals": described(rows, METRICS),
        }

    def compare(self, production: str, model: Sample, other: Sample, criteria: Criteria) -> Opponent:
        """See Classes."""
        return super().compare(production, _levels(model), _levels(other), criteria)

    def against_constant(self, model: Sample, criteria: Criteria, learned: Array | None = None) -> Constant | None:
        """Beside always answering with the median level; of what Classes have, with the most frequent one."""
        others = replace(criteria, rows=tuple(row for row in criteria.rows if row.metric not in METRICS))
        frequent = super().against_constant(model, others, learned)
        names = [row.metric for row in criteria.rows if row.metric in METRICS and not row.asks_nothing]
        if not names:
            return frequent
        level = int(np.median(model.true if learned is None else learned))
        constant = Levels(model.labels, model.true, np.full(len(model), level))
        found = changes(_levels(model), constant, names)
        told = dict.fromkeys([model.labels[level], *([frequent.label] if frequent else [])])
        beside = frequent or Constant("", None)
        return Constant(" or ".join(told), beside.comparison, (*found.values(), *beside.changes))

    def observed(self, truth: Objects, answers: Sequence[Answers]) -> list[Sample]:
        """See Classes."""
        return [_levels(rows) for rows in super().observed(truth, answers)]

    def measurable(self, metric: str, rows: Sample) -> bool:
        """See the base; of labels that are none of the levels it is not known how far off they are."""
        if metric in METRICS:
            return rows.labels == self.labels
        return super().measurable(metric, rows)


def _levels(rows: Sample) -> Levels:
    return rows if isinstance(rows, Levels) else Levels(rows.labels, rows.true, rows.predicted, rows.probabilities)


def _distances(rows: Weighted) -> Floats:
    """(levels, levels + 1): how far apart the levels of the confusion matrix are, the farthest in its last column."""
    levels = np.arange(len(rows.sample.labels))
    apart = np.abs(levels[:, None] - levels)
    return np.column_stack([apart, np.maximum(levels, levels[::-1])]).astype(np.float64)


def _mean_level_error(rows: Weighted) -> float:
    return ratio((rows.confusion * _distances(rows)).sum(), rows.confusion.sum())


def _quadratic_kappa(rows: Weighted) -> float:
    """Cohen (1968), Psychological Bulletin 70, 213: 1 less the squared error by that of chance."""
    squares = np.square(_distances(rows))
    said = rows.confusion.sum(axis=0)
    chance = np.outer(rows.present, said) / max(1.0, rows.confusion.sum())
    return 1 - ratio((rows.confusion * squares).sum(), (chance * squares).sum())


METRICS: Mapping[str, Callable[[Weighted], float]] = {
    "quadratic_kappa": _quadratic_kappa,
    "mean_level_error": _mean_level_error,
}
