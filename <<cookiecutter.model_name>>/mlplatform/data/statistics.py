"""Statistics of a numeric input, counted example by example."""

from dataclasses import dataclass

import numpy as np

from mlplatform.data.dataset import Array


@dataclass
class RunningStatistics:
    """Minimum, maximum, mean and standard deviation of all values of an input so far."""

    count: int = 0
    minimum: float = float("inf")
    maximum: float = float("-inf")
    total: float = 0.0
    squares: float = 0.0

    def add(self, values: Array) -> None:
        """Count the values of an array of any shape."""
        wide = values.astype(np.float64)
        self.count += wide.size
        self.minimum = min(self.minimum, float(wide.min()))
        self.maximum = max(self.maximum, float(wide.max()))
        self.total += float(wide.sum())
        self.squares += float(np.square(wide).sum())

    def summary(self) -> dict[str, float]:
        """By name; empty without values."""
        if not self.count:
            return {}
        mean = self.total / self.count
        deviation = max(0.0, self.squares / self.count - mean * mean) ** 0.5
        return {"minimum": self.minimum, "maximum": self.maximum, "mean": mean, "deviation": deviation}
