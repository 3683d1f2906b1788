"""Statistics of a numeric input, counted example by example."""

from dataclasses import dataclass, field

import numpy as np

from mlplatform.data.dataset import Array

# Values that are summed at once. So the sums' last digits follow from the values in order, not from how they came.
STEP = 1 << 16


@dataclass
class RunningStatistics:
    """Minimum, maximum, mean and standard deviation of all values of an input so far; `missing`: those that are NaN."""

    waiting: list[Array] = field(default_factory=list)
    count: int = 0
    missing: int = 0
    minimum: float = float("inf")
    maximum: float = float("-inf")
    total: float = 0.0
    squares: float = 0.0

    def add(self, values: Array) -> None:
        """Count the values of an array of any shape."""
        self.waiting.append(values.reshape(-1))
        if sum(map(len, self.waiting)) >= STEP:
            flat = np.concatenate(self.waiting)
            whole = len(flat) - len(flat) % STEP
            for start in range(0, whole, STEP):
                self._count(flat[start : start + STEP])
            self.waiting = [flat[whole:].copy()]

    def _count(self, values: Array) -> None:
        wide = values.astype(np.float64)
        there = ~np.isnan(wide)
        if not there.all():
            self.missing += int(np.count_nonzero(~there))
            wide = wide[there]
        self.count += wide.size
        if not wide.size:
            return
        self.minimum = min(self.minimum, float(wide.min()))
        self.maximum = max(self.maximum, float(wide.max()))
        self.total += float(wide.sum())
        self.squares += float(np.square(wide).sum())

    def summary(self) -> dict[str, float]:
        """By name, `missing` only if some are; empty without values. Nothing may be added any more."""
        rest = np.concatenate([np.empty(0), *self.waiting])
        self.waiting = []
        if len(rest):
            self._count(rest)
        if not self.count:
            return {}
        missing: dict[str, float] = {"missing": self.missing} if self.missing else {}
        mean = self.total / self.count
        deviation = max(0.0, self.squares / self.count - mean * mean) ** 0.5
        return {"minimum": self.minimum, "maximum": self.maximum, "mean": mean, "deviation": deviation, **missing}
