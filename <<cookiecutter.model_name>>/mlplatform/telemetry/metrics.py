"""Metrics collected in the process, and handed every few seconds to who takes them, such as Datadog's agent."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from mlplatform.telemetry.registry import Metric

Tags = tuple[str, ...]
Values = Mapping[tuple[Metric, Tags], float]
Distributions = Mapping[tuple[Metric, Tags, int], Sequence[float]]


class Receiver(Protocol):
    """Takes what a process has measured since the last time."""

    def take(self, counts: Values, gauges: Values, distributions: Distributions) -> None:
        """Take a report; never block, and never raise for whoever it goes to.

        counts: what is to be added. gauges: the values now. distributions: values by metric, tags and stride, how many
        each value stands for.
        """


class Metrics:
    """What is to be handed on next. For one thread or event loop."""

    def __init__(self, *receivers: Receiver) -> None:
        self._receivers = receivers
        self._counts: dict[tuple[Metric, Tags], float] = {}
        self._gauges: dict[tuple[Metric, Tags], float] = {}
        self._values: dict[tuple[Metric, Tags, int], list[float]] = {}

    def count(self, metric: Metric, value: float, *tags: str) -> None:
        """Add to a count. tags: `name:value`, exactly those of the registry. Raises ValueError for another kind."""
        key = _checked(metric, "count", tags)
        self._counts[key] = self._counts.get(key, 0) + value

    def gauge(self, metric: Metric, value: float, *tags: str) -> None:
        """Set a gauge."""
        self._gauges[_checked(metric, "gauge", tags)] = value

    def distribution(self, metric: Metric, values: Iterable[float], *tags: str, stride: int = 1) -> None:
        """Add values of a distribution, of which each stands for `stride`, a power of two."""
        key = _checked(metric, "distribution", tags)
        self._values.setdefault((*key, stride), []).extend(values)

    def send(self) -> None:
        """Hand everything on, to each receiver."""
        counts, gauges, values = self._counts, self._gauges, self._values
        self._counts, self._gauges, self._values = {}, {}, {}
        for receiver in self._receivers:
            receiver.take(counts, gauges, values)


def _checked(metric: Metric, kind: str, tags: Tags) -> tuple[Metric, Tags]:
    if metric.kind != kind:
        raise ValueError(f"{metric.name} is a {metric.kind}, not a {kind}")
    if tuple(tag.partition(":")[0] for tag in tags) not in (metric.tags, metric.all_tags):
        raise ValueError(f"{metric.name} has the tags {', '.join(metric.tags) or 'none'}; got {', '.join(tags)}")
    return metric, tags
