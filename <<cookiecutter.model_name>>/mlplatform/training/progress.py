"""How far a training run is, for a person at a terminal and for a log."""

import logging
import sys
import time
from collections.abc import Callable, Mapping

import keras

from mlplatform.training.metrics import TrainingMetrics

log = logging.getLogger(__name__)

Metrics = Mapping[str, float]


class Progress:
    """Keras's bar on a terminal; otherwise a line every `interval` seconds with epoch, step, metrics and time left."""

    def __init__(self, epochs: int, steps: int, interval: float, metrics: TrainingMetrics) -> None:
        self._metrics = metrics
        self.epochs = epochs
        self.steps = steps
        self.interval = interval
        self._started = self._reported = time.monotonic()
        self._done = 0
        self._bar: keras.utils.Progbar | None = None

    def step(self, epoch: int, step: int, metrics: Callable[[], Metrics]) -> None:
        """Report that `step` steps of an epoch (from 0) are done; `metrics` is called only if they are shown."""
        self._done += 1
        now = time.monotonic()
        self._metrics.progress((epoch + step / self.steps) / self.epochs)
        if sys.stdout.isatty():
            if self._bar is None:
                print(f"epoch {epoch + 1}/{self.epochs}")
                self._bar = keras.utils.Progbar(self.steps, interval=0.1)
            self._bar.update(step, list(metrics().items()) if step == self.steps else None)
        elif now - self._reported >= self.interval and step < self.steps:
            self._reported = now
            left = (self.epochs - epoch) * self.steps - step
            seconds = left * (now - self._started) / self._done
            place = f"epoch {epoch + 1}/{self.epochs} step {step}/{self.steps}"
            log.info("train: %s %s, %s left", place, shown(metrics()), _duration(seconds))

    def epoch(self, epoch: int, metrics: Metrics) -> None:
        """Report that an epoch (from 0) is done, with the metrics on both splits."""
        self._reported = time.monotonic()
        self._bar = None
        self._metrics.epoch((epoch + 1) / self.epochs, metrics)
        log.info("train: epoch %d/%d %s", epoch + 1, self.epochs, shown(metrics))


def shown(metrics: Metrics) -> str:
    """Metrics as `name=0.1234`."""
    return " ".join(f"{name}={value:.4f}" for name, value in metrics.items())


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
