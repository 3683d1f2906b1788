"""The population stability index (PSI): how far one histogram has moved from another, and how much is a shift.

The sum of (p - q) ln(p / q) over the bins, for shares p against shares q. The thresholds are those of credit scoring
(Siddiqi, Credit Risk Scorecards, 2006); the monitor in deploy/datadog/monitors/drift.json has them, too.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

STABLE = 0.1
"""Below it a distribution counts as unchanged."""
SHIFTED = 0.2
"""Above it a distribution counts as shifted."""
BINS = 10
"""Bins of a histogram, at most."""
LEAST_SHARE = 1e-4
"""What the share of an emptier bin counts as: PSI has no value for empty ones."""


def psi(shares: NDArray[np.float64], baseline: NDArray[np.float64]) -> float:
    """PSI of shares against those of the baseline, both (bins,)."""
    new, old = np.maximum(shares, LEAST_SHARE), np.maximum(baseline, LEAST_SHARE)
    return float(np.sum((new - old) * np.log(new / old)))


def shares(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Counts (bins,), not all 0, as shares; an empty bin counts as half a value."""
    smooth = np.maximum(np.asarray(counts, np.float64), 0.5)
    return np.asarray(smooth / smooth.sum())


def histogram(values: NDArray[Any]) -> dict[str, list[float]]:
    """Edges and shares of all values of an array of any shape that are finite.

    {"edges": [e1, ..., ek], "shares": [s0, ..., sk]}: s0 is the share of values up to and including e1, s1 of those
    above it up to and including e2, ..., sk of those above ek. Edges are quantiles, so bins hold about equally many:
    ten of them, fewer where values repeat. A constant has a bin of its own between two.
    """
    flat = np.sort(values.astype(np.float64), axis=None)
    flat = flat[np.isfinite(flat)]
    if not flat.size:
        return {"edges": [], "shares": [1.0]}
    # Quantiles that are values themselves, so that repeated values fall into a bin as a whole.
    edges = np.unique(np.quantile(flat, np.arange(1, BINS) / BINS, method="inverted_cdf"))
    edges = edges[edges < flat[-1]]
    if flat[0] == flat[-1]:
        edges = np.array([np.nextafter(flat[0], -np.inf), flat[0]])
    counts = np.diff(np.searchsorted(flat, edges, side="right"), prepend=0, append=flat.size)
    return {"edges": edges.tolist(), "shares": (counts / flat.size).tolist()}


def bin_shares(histogram: Mapping[str, Any]) -> NDArray[np.float64]:
    """Shares of the bins of a histogram; with its `missing`, the last one is of what is missing."""
    within = np.asarray(histogram["shares"], np.float64)
    if "missing" not in histogram:
        return within
    return np.append(within * (1 - histogram["missing"]), histogram["missing"])


def bins(values: NDArray[Any], edges: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """The bin of each value, of its shape. count: of the bins; one more than the edges make is of what is missing."""
    found = np.asarray(np.searchsorted(edges, values, side="left"))
    if count > len(edges) + 1:
        found[np.isnan(values)] = count - 1
    return found


def psi_of(values: NDArray[Any], histogram: Mapping[str, Any]) -> float:
    """PSI of values, an array of any shape, against a histogram; 0 without any."""
    expected = bin_shares(histogram)
    found = bins(values.reshape(-1), np.asarray(histogram["edges"], np.float64), len(expected))
    return psi(shares(np.bincount(found, minlength=len(expected))), expected) if found.size else 0.0


def describe(value: float) -> str:
    """A PSI in words."""
    return "stable" if value < STABLE else "some shift" if value <= SHIFTED else "a shift"
