"""Metrics of a training command, sent to Datadog's agent where one is named."""

import os
import time
from collections.abc import Mapping

from mlplatform.contract.errors import ExitCode
from mlplatform.telemetry import agent
from mlplatform.telemetry.dogstatsd import Client
from mlplatform.telemetry.metrics import Metrics
from mlplatform.telemetry.registry import TRAINING_METRIC, TRAINING_PROGRESS, TRAINING_RUNS, TRAINING_SECONDS

SECONDS = 10.0
_OUTCOMES = {ExitCode.DONE: "published", ExitCode.GATE_CLOSED: "refused", ExitCode.STOPPED: "stopped"}


class TrainingMetrics:
    """The metrics of a training command. metrics: None without an agent; then nothing is sent."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self._metrics = metrics
        self._started = time.monotonic()
        self._sent = self._started

    @classmethod
    def of(cls, service: str) -> "TrainingMetrics":
        """For the agent that the environment names."""
        return cls(Metrics(Client(service, "training")) if agent.takes_metrics(os.environ) else None)

    def progress(self, share: float) -> None:
        """Report the share of steps that are done; sent every SECONDS, as a step may take a millisecond."""
        if self._metrics is None or time.monotonic() - self._sent < SECONDS:
            return
        self._sent = time.monotonic()
        self._metrics.gauge(TRAINING_PROGRESS, share)
        self._metrics.send()

    def epoch(self, share: float, values: Mapping[str, float]) -> None:
        """Report the metrics at the end of an epoch."""
        if self._metrics is None:
            return
        self._metrics.gauge(TRAINING_PROGRESS, share)
        for name, value in values.items():
            self._metrics.gauge(TRAINING_METRIC, value, f"metric:{name}")
        self._metrics.send()

    def ended(self, code: ExitCode) -> None:
        """Report how the command ended, and after how long."""
        if self._metrics is None:
            return
        outcome = f"outcome:{_OUTCOMES.get(code, 'failed')}"
        self._metrics.count(TRAINING_RUNS, 1, outcome)
        self._metrics.gauge(TRAINING_SECONDS, time.monotonic() - self._started, outcome)
        self._metrics.send()
