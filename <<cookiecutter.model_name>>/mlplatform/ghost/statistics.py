"""The figures of the report. SciPy does the statistics."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, ks_2samp

from mlplatform.contract.comparison import CONFIDENCE, Comparison, Constant, Interval, Opponent, Paired, Share
from mlplatform.contract.criteria import Criteria
from mlplatform.contract.drift import describe, psi, shares
from mlplatform.contract.targets import Target
from mlplatform.contract.targets.base import Agreement, Objects
from mlplatform.ghost.observed import Alone, Floats, Observed, Pairs, Whole

QUANTILES = (0.5, 0.9, 0.95, 0.99)
BINS = 10
# 500 resamples give the interval to within 3 % of its width; more than 20,000 requests make it no better.
RESAMPLES = 500
RESAMPLED = 20_000


@dataclass(frozen=True)
class Latency:
    """Quantiles in ms by probability, as text; ratio: p95 of the ghost by p95 of the live model, with its interval."""

    requests: int
    ghost: dict[str, float]
    live: dict[str, float] | None
    ratio: float | None
    interval: Interval | None


@dataclass(frozen=True)
class Shift:
    """How far the ghost's scores are from the live model's, over the same rows.

    psi: population stability index over the deciles of the live scores. ks, p_value: two-sample Kolmogorov-Smirnov.
    mean_difference: the mean of |ghost - live|, row by row. bins: edges and shares of both.
    """

    rows: int
    psi: float
    ks: float
    p_value: float
    mean_difference: float
    edges: tuple[float, ...]
    live: tuple[float, ...]
    ghost: tuple[float, ...]

    @property
    def in_words(self) -> str:
        """Whether the PSI is a shift."""
        return describe(self.psi)


@dataclass(frozen=True)
class Errors:
    """Answers of 5xx of both to the same requests; p_value: McNemar's exact test."""

    requests: int
    ghost: int
    live: int | None
    p_value: float | None

    @property
    def excess(self) -> float:
        """The ghost's share beyond the live model's."""
        return (self.ghost - (self.live or 0)) / self.requests if self.requests else 0.0


@dataclass(frozen=True)
class Task:
    """How well the ghost does on the rows whose truth is known, those that both predicted where both did.

    target: of the ghost. rows: its answers. metrics: low end, value and high end (95 %) of what the gate's tables ask
    for; unmeasured: of those the names that cannot be had from events, or have no value. opponent: beside the live
    model, if there is one. constant: beside always answering the same.
    """

    target: Target
    rows: Any
    metrics: Mapping[str, tuple[float, float, float]]
    unmeasured: tuple[str, ...]
    opponent: Opponent
    constant: Constant | None

    def to_json(self) -> dict[str, Any]:
        """All figures as JSON values, but the accuracy's comparison, which is one of the report's own."""
        opponent = self.opponent.to_json()
        return {
            "metrics": {name: dict(zip(("low", "value", "high"), m, strict=True)) for name, m in self.metrics.items()},
            "unmeasured": list(self.unmeasured),
            "rows": self.target.counted(self.rows),
            "changes": opponent["changes"],
            "recall": opponent["recall"],
            "constant": self.constant.to_json() if self.constant else None,
        }


@dataclass(frozen=True)
class Figures:
    """Everything that is computed. None: there was nothing to compute it from.

    agreement: of the rows that both predicted. accuracy, live_accuracy: where rows are right or wrong. targets: of
    several by name those of each; all of them together have only what is of requests.
    """

    agreement: Agreement | None
    task: Task | None
    comparison: Comparison | Paired | None
    accuracy: Share | None
    live_accuracy: Share | None
    latency: Latency
    shift: Shift | None
    errors: Errors
    coverage: Share | None
    targets: Mapping[str, "Figures"] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """All figures as JSON values."""
        ratio = self.latency.interval
        return {
            **(self.agreement.to_json() if self.agreement else {"agreement": None}),
            "task": self.task.to_json() if self.task else None,
            "accuracy": _json(self.accuracy),
            "live_accuracy": _json(self.live_accuracy),
            "comparison": _json(self.comparison),
            "latency": {**asdict(self.latency), "interval": asdict(ratio) if ratio else None},
            "shift": asdict(self.shift) if self.shift else None,
            "errors": {**asdict(self.errors), "excess": self.errors.excess},
            "coverage": _json(self.coverage),
            **({"targets": {name: of.to_json() for name, of in self.targets.items()}} if self.targets else {}),
        }


def compute(observed: Observed, criteria: Criteria) -> Figures:
    """All figures. criteria: what the gate's tables ask for."""
    pairs, alone, live = observed.pairs, observed.alone, observed.live
    of_requests = Figures(
        agreement=None,
        task=None,
        comparison=None,
        accuracy=None,
        live_accuracy=None,
        latency=latency(pairs, alone),
        shift=None,
        errors=errors(pairs, alone),
        coverage=_coverage(observed) if live and live.mirrored else None,
    )
    if not observed.of_targets:
        return _of_target(observed, criteria, of_requests)
    targets = {name: _of_target(of, criteria.of(name), of_requests) for name, of in observed.of_targets.items()}
    return replace(of_requests, targets=targets)


def _of_target(observed: Observed, criteria: Criteria, of_requests: Figures) -> Figures:
    """Those of a target beside those of requests."""
    pairs, task = observed.pairs, _task(observed, criteria)
    comparison = task.opponent.comparison if task else None
    scored = np.isfinite(pairs.live.scores) & np.isfinite(pairs.ghost.scores)
    return replace(
        of_requests,
        agreement=observed.target.agreement(pairs.live, pairs.ghost, pairs.truth),
        task=task,
        comparison=comparison,
        accuracy=task.target.right(task.rows) if task else None,
        live_accuracy=_right_live(comparison),
        shift=shift(pairs.live.scores[scored], pairs.ghost.scores[scored]) if scored.any() else None,
    )


def latency(pairs: Pairs, alone: Alone) -> Latency:
    """Of the requests that both answered, or of all of the ghost's where nothing live answered."""
    if not pairs.requests:
        return Latency(len(alone.ms), quantiles(alone.ms), None, None, None)
    ratio, interval = quantile_ratio(pairs.ghost_ms, pairs.live_ms)
    return Latency(pairs.requests, quantiles(pairs.ghost_ms), quantiles(pairs.live_ms), ratio, interval)


def quantiles(values: Floats) -> dict[str, float]:
    """Quantiles by name: p50, p90, ... values: (n,), at least one."""
    return {
        f"p{100 * q:g}": round(float(value), 4)
        for q, value in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)
    }


def quantile_ratio(ghost: Floats, live: Floats, q: float = 0.95) -> tuple[float, Interval]:
    """Ratio of a quantile of both, and the percentile bootstrap's interval of it, resampling requests.

    ghost, live: (requests,), of the same requests. Efron (1979), Ann. Statist. 7, 1.
    """
    generator = np.random.default_rng(0)
    every = max(1, len(ghost) // RESAMPLED)
    some_ghost, some_live = ghost[::every], live[::every]
    ratios = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        chosen = generator.integers(0, len(some_ghost), len(some_ghost))
        ratios[i] = _ratio(some_ghost[chosen], some_live[chosen], q)
    low, high = np.quantile(ratios, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return _ratio(ghost, live, q), Interval(float(low), float(high))


def shift(live: Floats, ghost: Floats) -> Shift:
    """How the scores have moved. live, ghost: (rows,), of the same rows.

    PSI is over ten bins that hold a tenth of the live scores each.
    """
    edges = np.unique(np.quantile(live, np.linspace(0, 1, BINS + 1)[1:-1]))
    in_bins = [
        shares(np.bincount(np.searchsorted(edges, scores, side="right"), minlength=len(edges) + 1))
        for scores in (live, ghost)
    ]
    test = ks_2samp(live, ghost)
    # For the eye: twenty bins of equal width.
    low, high = float(min(live.min(), ghost.min())), float(max(live.max(), ghost.max()))
    drawn = np.linspace(low, high if high > low else low + 1, 21)
    drawn_shares = [np.histogram(scores, drawn)[0] / len(scores) for scores in (live, ghost)]
    return Shift(
        rows=len(live),
        psi=psi(in_bins[1], in_bins[0]),
        ks=float(test.statistic),
        p_value=float(test.pvalue),
        mean_difference=float(np.abs(ghost - live).mean()),
        edges=tuple(drawn.tolist()),
        live=tuple(drawn_shares[0].tolist()),
        ghost=tuple(drawn_shares[1].tolist()),
    )


def errors(pairs: Pairs, alone: Alone) -> Errors:
    """Who answered the same requests with 5xx."""
    if not pairs.requests:
        return Errors(len(alone.status), _count(alone.status), None, None)
    live, ghost = _count(pairs.live_status), _count(pairs.ghost_status)
    # McNemar's test again: both answered the same requests.
    only_ghost = int(((pairs.ghost_status >= 500) & (pairs.live_status < 500)).sum())
    only_live = int(((pairs.live_status >= 500) & (pairs.ghost_status < 500)).sum())
    p_value = float(binomtest(only_ghost, only_ghost + only_live).pvalue) if only_ghost + only_live else 1.0
    return Errors(pairs.requests, ghost, live, p_value)


def _count(status: Whole) -> int:
    return int((status >= 500).sum())


def _ratio(ghost: Floats, live: Floats, q: float) -> float:
    # A microsecond at least: what is faster than the clock is not infinitely faster.
    return float(np.quantile(ghost, q) / max(np.quantile(live, q), 1e-3))


def _task(observed: Observed, criteria: Criteria) -> Task | None:
    """Of the rows that both predicted and whose truth is known, or of the ghost's alone where there are none."""
    pairs, alone, target = observed.pairs, observed.alone, observed.target
    known = target.comparable(pairs.live) & target.comparable(pairs.ghost) & _known(pairs.truth)
    if known.any():
        truth, answers = pairs.truth[known], [pairs.ghost.at(known), pairs.live.at(known)]
    else:
        known = target.comparable(alone.ghost) & _known(alone.truth)
        if not known.any():
            return None
        truth, answers = alone.truth[known], [alone.ghost.at(known)]
    ghost, *live = target.observed(truth, answers)
    asked = [row for row in criteria.rows if not row.of_each_class]
    names = [row.metric for row in asked if target.measurable(row.metric, ghost)]
    each = [f"{row.metric}.{label}" for row in criteria.rows if row.of_each_class for label in target.counted(ghost)]
    measured = replace(criteria, rows=tuple(row for row in criteria.rows if row.of_each_class or row.metric in names))
    metrics = target.intervals(ghost, [*names, *each])
    opponent = Opponent()
    if live:
        opponent = target.compare(observed.live.version if observed.live else "", ghost, live[0], measured)
    return Task(
        target,
        ghost,
        metrics,
        tuple(row.metric for row in asked if row.metric not in metrics),
        opponent,
        target.against_constant(ghost, measured),
    )


def _known(truth: Objects) -> NDArray[np.bool_]:
    return np.array([value is not None for value in truth], bool)


def _right_live(comparison: Comparison | Paired | None) -> Share | None:
    if not isinstance(comparison, Comparison):
        return None
    return Share(comparison.both + comparison.only_production, comparison.examples)


def _coverage(observed: Observed) -> Share | None:
    """Of the live answers whose request was mirrored, those with the ghost's answer."""
    live, ghost = observed.live, observed.ghost
    mirrored = [id for id, prediction in live.predictions.items() if prediction.mirrored] if live else []
    return Share(sum(id in ghost.predictions for id in mirrored), len(mirrored)) if mirrored else None


def _json(figures: Share | Comparison | Paired | None) -> dict[str, Any] | None:
    return figures.to_json() if figures else None
