"""The server's metrics, from what it does with each request.

A request is only counted here, and every n-th is timed. What takes longer (predictions, drift) is done for many
requests at once. benchmarks/serving/telemetry.py measures what that costs.
"""

import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np

from mlplatform.contract.targets import Target
from mlplatform.serving.errors import OverloadedError
from mlplatform.serving.model.batching import ModelCall
from mlplatform.serving.model.service import ServedModel
from mlplatform.serving.model.signature import Array
from mlplatform.serving.observability.drift import Drift
from mlplatform.serving.observability.memory import resident_bytes
from mlplatform.serving.observability.request_record import RequestRecord
from mlplatform.telemetry import registry
from mlplatform.telemetry.metrics import Metrics

KEEP = 1000
"""Requests that are timed between two reports, at most twice as many; at more each stands for several."""
_FOLD = 512
_CLASSES = 100
# What a target watches of its predictions, and the metric that has it.
_DISTRIBUTIONS = {"confidence": registry.CONFIDENCE, "values": registry.PREDICTED_VALUES}
# Rows whose inputs are compared with the baseline between two reports, so that it costs no request much.
_DRIFT_REQUESTS = 100
_DRIFT_ROWS = 4


class ServingMetrics:
    """Observes requests; `report` puts what they came to into `metrics`, and sends them.

    model: the served model, None while there is none.
    """

    def __init__(self, metrics: Metrics, model: Callable[[], ServedModel | None]) -> None:
        self._metrics = metrics
        self._model = model
        self._requests: dict[tuple[str, int, type[Exception | None]], int] = {}
        self._stride = self._left = 1
        self._timed: list[tuple[str, float, float, float, float, float]] = []
        self._calls: deque[ModelCall] = deque()
        self._outputs: list[Array] = []
        self._looked_at = 0
        self._counted: Array = np.zeros(0, dtype=np.int64)
        self._values: dict[str, list[Array]] = {}
        self._watched = False
        self._predictions: _Predictions | None = None
        self._reported = self._cpu_at = time.monotonic()
        self._cpu = time.process_time()

    def __call__(self, record: RequestRecord) -> None:
        """Observe a record."""
        if not self._watched and record.model is not None:
            self._watch(record.model)
        error = record.error
        # HTTPStatus hashes slowly; its number does not.
        key = (record.protocol, 200 if error is None else int(record.status), type(error))
        self._requests[key] = self._requests.get(key, 0) + 1
        if self._predictions is not None and record.outputs:
            self._outputs.append(record.outputs[self._predictions.output])
            if len(self._outputs) >= _FOLD:
                self.fold()
        self._left -= 1
        if not self._left:
            self._left = self._stride
            self._time(record)

    def fold(self) -> None:
        """Work off the predictions that came since the last time."""
        outputs, self._outputs = self._outputs, []
        if not outputs or self._predictions is None:
            return
        signals = self._predictions.target.signals(np.concatenate(outputs))
        for signal, values in signals.items():
            if signal in _DISTRIBUTIONS:
                self._values.setdefault(signal, []).append(values)
        self._counted = self._counted + self._predictions.target.frequencies(signals)
        if self._predictions.drift is not None:
            self._predictions.drift.add_predictions(signals)

    def report(self) -> None:
        """Send everything since the last report."""
        self.fold()
        self._report_requests()
        self._report_times()
        self._report_model()
        self._report_predictions()
        self._report_process()
        self._metrics.send()

    def _time(self, record: RequestRecord) -> None:
        calls = record.calls
        if record.computed and calls:
            parts = (
                record.parsed - record.started,
                calls[0].started - record.parsed,
                record.model_seconds,
                record.finished - record.computed,
            )
        else:
            parts = (0.0, 0.0, 0.0, 0.0)
        self._timed.append((_outcome(record.status, type(record.error)), record.seconds, *parts))
        if len(self._timed) >= 2 * KEEP:
            self._timed = self._timed[::2]
            self._stride = self._left = 2 * self._stride
        drift = self._predictions.drift if self._predictions else None
        if drift is not None and record.inputs and self._looked_at < _DRIFT_REQUESTS:
            self._looked_at += 1
            drift.add_inputs([array[:_DRIFT_ROWS] for array in record.inputs])

    def _watch(self, model: ServedModel) -> None:
        """Begin to look at the model's calls and predictions."""
        self._watched = True
        model.batcher.watch = self._calls
        self._predictions = _Predictions.of(model)
        labels = self._predictions.target.value_names if self._predictions else ()
        self._counted = np.zeros(len(labels), dtype=np.int64)

    def _report_requests(self) -> None:
        requests, self._requests = self._requests, {}
        for (protocol, status, error), number in requests.items():
            tags = (f"protocol:{protocol}", f"status:{int(status)}", f"outcome:{_outcome(status, error)}")
            self._metrics.count(registry.REQUESTS, number, *tags)

    def _report_times(self) -> None:
        timed, stride = self._timed, self._stride
        self._timed = []
        self._looked_at = 0
        if len(timed) < KEEP // 2 and stride > 1:
            self._stride = self._left = stride // 2
        for outcome in {row[0] for row in timed}:
            seconds = [row[1] for row in timed if row[0] == outcome]
            self._metrics.distribution(registry.REQUEST_SECONDS, seconds, f"outcome:{outcome}", stride=stride)
        # One that was not computed has no parts.
        computed = [row for row in timed if row[4]]
        for position, part in enumerate(("parse", "queue", "model", "answer"), 2):
            values = [float(row[position]) for row in computed]
            self._metrics.distribution(registry.REQUEST_PART_SECONDS, values, f"part:{part}", stride=stride)

    def _report_model(self) -> None:
        now = time.monotonic()
        elapsed, self._reported = now - self._reported, now
        model = self._model()
        if model is None:
            return
        calls = [self._calls.popleft() for _ in range(len(self._calls))]
        stride = 1 << max(0, (len(calls) // KEEP).bit_length())
        sampled = calls[::stride]
        self._metrics.distribution(registry.BATCH_ROWS, [call.rows for call in sampled], stride=stride)
        self._metrics.distribution(registry.BATCH_REQUESTS, [call.requests for call in sampled], stride=stride)
        self._metrics.gauge(registry.QUEUE_ROWS, max((call.waiting for call in calls), default=0))
        # A call that goes on counts when it has ended; then it may have begun before the last report.
        busy = sum(call.ended - call.started for call in calls) or min(model.batcher.busy_for(), elapsed)
        self._metrics.gauge(registry.MODEL_BUSY, min(1.0, busy / max(elapsed, 1e-9)))
        created = datetime.fromisoformat(model.manifest.created_at)
        age = (datetime.now(UTC) - created).total_seconds()
        self._metrics.gauge(registry.MODEL_AGE, age, f"model_version:{model.manifest.id}")

    def _report_predictions(self) -> None:
        predictions = self._predictions
        if predictions is None:
            return
        counted, self._counted = self._counted, np.zeros_like(self._counted)
        for label, number in zip(predictions.target.value_names[:_CLASSES], counted[:_CLASSES].tolist(), strict=False):
            if number:
                self._metrics.count(registry.PREDICTIONS, number, f"class:{label}")
        others = int(counted[_CLASSES:].sum())
        if others:
            self._metrics.count(registry.PREDICTIONS, others, "class:other")
        folded, self._values = self._values, {}
        for signal, pieces in folded.items():
            values = np.concatenate(pieces)
            stride = 1 << max(0, (len(values) // KEEP).bit_length())
            self._metrics.distribution(_DISTRIBUTIONS[signal], values[::stride].tolist(), stride=stride)
        if predictions.drift is not None:
            for signal, value in predictions.drift.psi().items():
                self._metrics.gauge(registry.DRIFT, value, f"signal:{signal}")

    def _report_process(self) -> None:
        cpu, now = time.process_time(), time.monotonic()
        since = max(now - self._cpu_at, 1e-9)
        self._metrics.gauge(registry.PROCESS_CPU, (cpu - self._cpu) / since)
        self._cpu, self._cpu_at = cpu, now
        memory = resident_bytes()
        if memory:
            self._metrics.gauge(registry.PROCESS_MEMORY, memory)


class _Predictions:
    """How to read predictions out of a model's outputs. output: which one is the target's, (rows, *row_shape)."""

    def __init__(self, output: int, target: Target, drift: Drift | None) -> None:
        self.output = output
        self.target = target
        self.drift = drift

    @classmethod
    def of(cls, model: ServedModel) -> "_Predictions | None":
        """None for a model whose manifest says no target: it is not known what its predictions are."""
        target = model.target
        for position, tensor in enumerate(model.signature.outputs):
            if target and tensor.dtype.startswith("float") and tensor.shape == target.row_shape:
                names = [tensor.name for tensor in model.signature.inputs]
                lengths = {tensor.name: tensor.length for tensor in model.signature.inputs if tensor.length}
                baseline = model.manifest.properties.get("baseline")
                return cls(position, target, Drift(baseline, names, target, lengths) if baseline else None)
        return None


def _outcome(status: int, error: type[Exception | None]) -> str:
    if status < 400:
        return "ok"
    if status < 500:
        return "refused"
    return "shed" if issubclass(error, OverloadedError) else "failed"
