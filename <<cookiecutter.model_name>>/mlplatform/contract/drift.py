"""The population stability index (PSI): how far one histogram has moved from another, and how much is a shift.

The sum of (p - q) ln(p / q) over the bins, for shares p against shares q. The thresholds are those of credit scoring
(Siddiqi, Credit Risk Scorecards, 2006); the monitor in deploy/datadog/monitors/drift.json has them, too.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

STABLE = 0.1
"""Below it a distribution counts as unchanged."""
SHIFTED = 0.2
"""Above it a distribution counts as shifted."""
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


def describe(value: float) -> str:
    """A PSI in words."""
    return "stable" if value < STABLE else "some shift" if value <= SHIFTED else "a shift"
