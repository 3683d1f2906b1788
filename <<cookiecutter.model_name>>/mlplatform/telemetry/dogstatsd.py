"""Metrics handed to Datadog's agent.

The official client has the sockets (UDP and Unix, never blocking), the container's identity and the unified service
tags. It is not called for every value: ten calls for each request would cost a good part of a small model's throughput,
even when the client aggregates, and it sends a line for each value of a distribution. benchmarks/serving/telemetry.py
measures what metrics cost.
"""

import logging
import os
from collections.abc import Sequence

from datadog.dogstatsd.base import DogStatsd

from mlplatform.telemetry.agent import METRICS_SOCKET
from mlplatform.telemetry.metrics import Distributions, Values
from mlplatform.telemetry.registry import DROPPED

LOG = logging.getLogger(__name__)
_LINE_BYTES = 1000
# Reports that must go through until the agent is believed to be back. Of two packets to a UDP port that nobody listens
# on only every other one is refused: the system learns of the first one's fate when the second is sent.
_BACK_AFTER = 3


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
        self._lost = 0
        self.dropping = False
        """Whether the agent does not take what it is sent."""

    def take(self, counts: Values, gauges: Values, distributions: Distributions) -> None:
        """See Receiver. What the agent does not take is lost."""
        # Not while it would be dropped as well.
        reported = 0 if self.dropping else self._lost
        # Many lines to a packet.
        with self:
            for (metric, tags), value in counts.items():
                self.count(metric.name, value, list(tags))
            for (metric, tags), value in gauges.items():
                self.gauge(metric.name, value, list(tags))
            for (metric, tags, stride), values in distributions.items():
                self.values(metric.name, values, stride, list(tags))
            if reported:
                self.count(DROPPED.name, reported)
        dropped = self.dropped()
        # Reported again until a report gets through as a whole.
        self._lost += dropped or -reported

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
