"""Metrics as Prometheus reads them: what was counted since the start, in OpenMetrics' text format.

https://prometheus.io/docs/specs/om/open_metrics_spec. Metrics have the names of the registry, with underscores for
dots. Prometheus adds up histograms of several servers, which it cannot do with percentiles, so a distribution is one.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlplatform.telemetry.metrics import Distributions, Tags, Values
from mlplatform.telemetry.registry import METRICS, Metric

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
# Upper bounds of a histogram's buckets, by the metric's unit; there is always one more, without a bound.
BUCKETS = {
    "second": (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
    "fraction": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1),
}
_OTHER_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

Key = tuple[str, Tags]


def bounds(metric: Metric) -> tuple[float, ...]:
    """Upper bounds of the buckets of a distribution."""
    return BUCKETS.get(metric.unit, _OTHER_BUCKETS)


@dataclass
class Totals:
    """What a process has measured since its start, or several together. A Receiver of Metrics.

    histograms: by metric and tags, how many values are in each bucket, and at the end their sum.
    """

    counts: dict[Key, float] = field(default_factory=lambda: defaultdict(float))
    gauges: dict[Key, float] = field(default_factory=dict)
    histograms: dict[Key, list[float]] = field(default_factory=dict)

    def take(self, counts: Values, gauges: Values, distributions: Distributions) -> None:
        """See Receiver."""
        for (metric, tags), value in counts.items():
            self.counts[metric.name, tags] += value
        self.gauges = {(metric.name, tags): value for (metric, tags), value in gauges.items()}
        for (metric, tags, stride), values in distributions.items():
            limits = bounds(metric)
            buckets = self.histograms.setdefault((metric.name, tags), [0.0] * (len(limits) + 2))
            for value in values:
                buckets[bisect_left(limits, value)] += stride
            buckets[-1] += stride * sum(values)

    def add(self, other: "Totals", *more: str) -> None:
        """Add those of another process. more: tags for its gauges, which cannot be added up."""
        for key, value in other.counts.items():
            self.counts[key] += value
        self.gauges |= {(name, (*tags, *more)): value for (name, tags), value in other.gauges.items()}
        for key, buckets in other.histograms.items():
            before = self.histograms.get(key, [0.0] * len(buckets))
            self.histograms[key] = [sum(pair) for pair in zip(before, buckets, strict=True)]

    def dump(self) -> dict[str, Any]:
        """As JSON values, for `load`."""
        return {name: [[*key, value] for key, value in part.items()] for name, part in self._parts().items()}

    def _parts(self) -> dict[str, dict[Any, Any]]:
        return {"counts": self.counts, "gauges": self.gauges, "histograms": self.histograms}

    @classmethod
    def load(cls, content: Mapping[str, Any]) -> "Totals":
        """From what `dump` gave."""
        totals = cls()
        for name, part in totals._parts().items():
            part.update({(metric, tuple(tags)): value for metric, tags, value in content[name]})
        return totals

    def text(self, **server: str) -> str:
        """In OpenMetrics' format. server: labels that say whose they are, in a metric of their own."""
        lines = ["# TYPE ml_server info", "# HELP ml_server Whose metrics these are."]
        lines.append(f"ml_server_info{_labels(server)} 1")
        for metric in METRICS.values():
            samples = list(self._samples(metric))
            if samples:
                name = metric.name.replace(".", "_")
                kind = {"count": "counter", "gauge": "gauge", "distribution": "histogram"}[metric.kind]
                lines += [f"# TYPE {name} {kind}", f"# HELP {name} {_escaped(metric.meaning)}", *samples]
        return "\n".join([*lines, "# EOF", ""])

    def _samples(self, metric: Metric) -> Iterable[str]:
        name = metric.name.replace(".", "_")
        simple = self.counts if metric.kind == "count" else self.gauges
        suffix = "_total" if metric.kind == "count" else ""
        for (own, tags), value in sorted(simple.items()):
            if own == metric.name:
                yield f"{name}{suffix}{_labels(_by_name(tags))} {value:.10g}"
        for (own, tags), (*buckets, total) in sorted(self.histograms.items()):
            if own == metric.name:
                yield from _histogram(name, _by_name(tags), bounds(metric), buckets, total)


def _histogram(
    name: str, labels: Mapping[str, str], limits: Iterable[float], buckets: list[float], total: float
) -> Iterable[str]:
    """Samples of a histogram: each bucket counts those below its bound, the smaller buckets' included."""
    below = 0.0
    for limit, count in zip([*map(_bound, limits), "+Inf"], buckets, strict=True):
        below += count
        yield f"{name}_bucket{_labels({**labels, 'le': limit})} {below:.10g}"
    yield f"{name}_count{_labels(labels)} {below:.10g}"
    yield f"{name}_sum{_labels(labels)} {total:.10g}"


def _bound(limit: float) -> str:
    """A bucket's bound as OpenMetrics writes it: 1 is 1.0."""
    return repr(float(limit))


def _by_name(tags: Tags) -> dict[str, str]:
    pairs = (tag.partition(":") for tag in tags)
    return {name: value for name, _, value in pairs}


def _labels(labels: Mapping[str, str]) -> str:
    written = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{written}}}" if written else ""


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
