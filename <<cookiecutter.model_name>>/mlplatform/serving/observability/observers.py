"""Who watches the predict requests of this process, and what they do every second."""

from collections.abc import Callable, Iterator

import gevent

from mlplatform.serving.ghost.ghost_mode import GhostMode
from mlplatform.serving.model.service import Service
from mlplatform.serving.observability.request_log import RequestLog
from mlplatform.serving.observability.request_record import Observer
from mlplatform.serving.observability.shared_totals import SharedTotals, WorkerTotals
from mlplatform.telemetry.metrics import Metrics, Receiver

TICK = 1.0


class Observers:
    """The observers of one process. Made in the worker, once gevent has patched it; `stop` sends what is left.

    Metrics need Datadog's agent, named in the environment, or somebody who asks for them at /metrics, traces a process
    that ddtrace-run has started. Without them no request is measured or traced.
    """

    def __init__(
        self, service: Service, ghost: GhostMode, traced: bool, to_agent: bool, totals: SharedTotals | None
    ) -> None:
        settings = service.settings
        self.all: list[Observer] = []
        self._every_second: list[Callable[[], None]] = []
        self._report: Callable[[], None] | None = None
        self._report_seconds = settings.report_seconds
        self._ghost = ghost
        self.all += ghost.observers
        if to_agent or totals:
            from mlplatform.serving.observability.metrics import ServingMetrics

            sent = Metrics(*_receivers(service, to_agent, totals))
            self._every_second.append(lambda: ghost.measure(sent))
            metrics = ServingMetrics(sent, lambda: service.model)
            self._add(metrics, metrics.fold)
            self._report = metrics.report
        if traced:
            from mlplatform.serving.observability.tracing import Tracing

            slow = settings.trace_slow_ms / 1000
            tracing = Tracing(settings.trace_rate, slow, settings.traces_per_second, settings.role)
            self._add(tracing, tracing.finish)
        # Last: its lines name the trace.
        log = RequestLog(settings.log_rate)
        self._add(log, log.tick)

    def start(self) -> None:
        """Begin to tick."""
        self._ghost.start()
        gevent.spawn(self._run)

    def stop(self) -> None:
        """Do the last tick, and send what has come since the last report."""
        self._ghost.finish()
        for tick in self._every_second:
            tick()
        if self._report is not None:
            self._report()
        self._ghost.stop()

    def _add(self, observer: Observer, tick: Callable[[], None]) -> None:
        self.all.append(observer)
        self._every_second.append(tick)

    def _run(self) -> None:
        waited = 0.0
        while True:
            step = min(TICK, self._report_seconds)
            gevent.sleep(step)
            for tick in self._every_second:
                tick()
            waited += step
            if self._report is not None and waited >= self._report_seconds:
                waited = 0.0
                self._report()


def _receivers(service: Service, to_agent: bool, totals: SharedTotals | None) -> Iterator[Receiver]:
    """Who takes the metrics."""
    if to_agent:
        from mlplatform.telemetry.dogstatsd import Client

        yield Client(service.name, service.settings.role)
    if totals is not None:
        yield WorkerTotals(totals)
