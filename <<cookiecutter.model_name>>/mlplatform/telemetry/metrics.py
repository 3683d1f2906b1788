"""Metrics collected in the process and handed to Datadog's agent every few seconds.

The official client has the sockets (UDP and Unix, never blocking), the container's identity and the unified service
tags. It is not called for every value: ten calls for each request would cost a good part of a small model's throughput,
even when the client aggregates, and it sends a line for each value of a distribution. benchmarks/serving/telemetry.py
measures what metrics cost.
"""

import logging
import os
from collections.abc import Iterable, Sequence

from datadog.dogstatsd.base import DogStatsd

from mlplatform.telemetry.agent import METRICS_SOCKET
from mlplatform.telemetry.registry import DROPPED, Metric

LOG = logging.getLogger(__name__)
_LINE_BYTES = 1000
# Reports that must go through until the agent is believed to be back. Of two packets to a UDP port that nobody listens
# on only every other one is refused: the system learns of the first one's fate when the second is sent.
_BACK_AFTER = 3

Tags = tuple[str, ...]


class Client(DogStatsd):
    """Datadog's client, to the agent that the environment names, with what it lacks: many values in one line."""

    def __init__(self, service: str, role: str) -> None:
        tags = [f"role:{role}"]
        if not os.environ.get("DD_SERVICE"):
            tags.append(f"service:{service}")
        named = os.environ.get("DD_DOGSTATSD_URL") or os.environ.get("DD_AGENT_HOST")
        # Its own log has a line for each packet that is lost.
        logging.getLogger("datadog.dogstatsd").setLevel(logging.CRITICAL)
        super().__init__(
            socket_path=None if named else str(METRICS_SOCKET), constant_tags=tags, telemetry_min_flush_interval=60
        )
        self._seen = 0
        self._clean = 0
        self.dropping = False
        """Whether the agent does not take what it is sent."""

    def values(self, name: str, values: Sequence[float], stride: int, tags: list[str]) -> None:
        """Values of a distribution, of which each stands for `stride` values, a power of two so that 1/stride is exact.

        The line is that of DogStatsD 1.1, `name:1:2:3|d|@0.5`.
        """
        line: list[str] = []
        size = 0
        for value in values:
            text = f"{value:.6g}"
            if size + len(text) >= _LINE_BYTES:
                self._report(name, "d", ":".join(line), tags, 1 / stride, sampling=False)
                line, size = [], 0
            line.append(text)
            size += len(text) + 1
        if line:
            self._report(name, "d", ":".join(line), tags, 1 / stride, sampling=False)

    def dropped(self) -> int:
        """Packets that the agent did not take since the last call; the log says when that begins and when it ends."""
        total = int(self.packets_dropped)
        # The client starts anew when it has reported its own figures.
        new = total - self._seen if total >= self._seen else total
        self._seen = total
        self._clean = 0 if new else self._clean + 1
        if new and not self.dropping:
            self.dropping = True
            LOG.warning("Datadog's agent does not take metrics; they are dropped until it does")
        elif self.dropping and self._clean >= _BACK_AFTER:
            self.dropping = False
            LOG.info("Datadog's agent takes metrics again")
        return new


class Metrics:
    """What is to be sent next. For one thread or event loop."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._counts: dict[tuple[Metric, Tags], float] = {}
        self._gauges: dict[tuple[Metric, Tags], float] = {}
        self._lost = 0
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
        """Hand everything to the agent. Never blocks on it and never raises for it: what it does not take is lost."""
        counts, gauges, values = self._counts, self._gauges, self._values
        self._counts, self._gauges, self._values = {}, {}, {}
        # Many lines to a packet.
        client = self._client
        # Not while it would be dropped as well.
        reported = 0 if client.dropping else self._lost
        with client:
            for (metric, tags), value in counts.items():
                client.count(metric.name, value, list(tags))
            for (metric, tags), value in gauges.items():
                client.gauge(metric.name, value, list(tags))
            for (metric, tags, stride), several in values.items():
                client.values(metric.name, several, stride, list(tags))
            if reported:
                client.count(DROPPED.name, reported)
        dropped = client.dropped()
        # Reported again until a report gets through as a whole.
        self._lost += dropped or -reported

    def event(self, title: str, text: str, *tags: str, failed: bool = False) -> None:
        """Put an event into Datadog's stream."""
        self._client.event(title, text, alert_type="error" if failed else "info", tags=list(tags))


def _checked(metric: Metric, kind: str, tags: Tags) -> tuple[Metric, Tags]:
    if metric.kind != kind:
        raise ValueError(f"{metric.name} is a {metric.kind}, not a {kind}")
    if tuple(tag.partition(":")[0] for tag in tags) != metric.tags:
        raise ValueError(f"{metric.name} has the tags {', '.join(metric.tags) or 'none'}; got {', '.join(tags)}")
    return metric, tags
