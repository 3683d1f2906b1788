"""Spans of the requests that are worth a trace, made when they are over.

Nothing is made while a request runs: a span costs a good part of a small request. Those of a traced one are built
afterwards from its times, so they nest although the model runs elsewhere:

    ml.request > ml.parse, ml.queue, ml.batch > ml.model, ml.answer

Traced is what the caller decided to trace, what took long, what failed, and one in so many of the rest; no more than
`most` in a second. What the caller decided not to trace is not.
"""

import random
import time
from http import HTTPStatus
from typing import Any

from ddtrace.constants import ERROR_MSG, ERROR_TYPE, MANUAL_KEEP_KEY, SPAN_KIND
from ddtrace.ext import SpanKind, SpanTypes, http
from ddtrace.propagation.http import HTTPPropagator
from ddtrace.trace import Context, Span, tracer

from mlplatform.serving.model.batching import ModelCall
from mlplatform.serving.observability.request_record import RequestRecord


class Tracing:
    """Observes requests; `finish`, called every second, completes and hands over their traces.

    rate: share of requests traced without any other reason. slow: seconds that make one slow. role: live or ghost.
    """

    def __init__(self, rate: float, slow: float, most: int, role: str) -> None:
        self._rate = rate
        self._slow = slow
        self._most = self._left = most
        self._role = role
        self._open: list[tuple[Span, RequestRecord]] = []
        self._epoch = _epoch()

    def __call__(self, record: RequestRecord) -> None:
        """Observe a record: begin its trace, if it gets one, so that the log lines that follow can name it."""
        if self._left and self._wanted(record):
            self._left -= 1
            span = self._request_span(record)
            record.trace = (span.trace_id, span.span_id)
            self._open.append((span, record))

    def finish(self) -> None:
        """Complete the traces begun since the last time: by now all requests of their batches are known."""
        self._left = self._most
        ended, self._open = self._open, []
        sharing: dict[int, list[Span]] = {}
        for span, record in ended:
            for call in record.calls:
                sharing.setdefault(id(call), []).append(span)
        for span, record in ended:
            self._add_parts(span, record, sharing)
            span.finish(self._epoch + record.finished)
        # Once a second, as the clock may be set; not within a trace, whose spans would no longer fit.
        self._epoch = _epoch()

    def _wanted(self, record: RequestRecord) -> bool:
        decision = _decision(record.environ)
        if decision is not None:
            return decision
        failed = record.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        return failed or record.seconds > self._slow or random.random() < self._rate  # noqa: S311

    def _request_span(self, record: RequestRecord) -> Span:
        environ = record.environ
        span = self._span("ml.request", record.started, _caller(environ), SpanTypes.WEB)
        span.resource = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        # The decision is made: the agent is not to make another.
        span.set_tag(MANUAL_KEEP_KEY)
        span.set_tag(SPAN_KIND, SpanKind.SERVER)
        span.set_tag(http.METHOD, environ["REQUEST_METHOD"])
        span.set_tag(http.URL, environ["PATH_INFO"])
        span.set_tag(http.STATUS_CODE, str(int(record.status)))
        span.set_tag("request_id", record.request_id)
        span.set_tag("model_version", record.version)
        span.set_tag("protocol", record.protocol)
        span.set_tag("role", self._role)
        span.set_metric("rows", record.rows)
        if record.error is not None and record.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            span.error = 1
            span.set_tag(ERROR_TYPE, type(record.error).__name__)
            span.set_tag(ERROR_MSG, str(record.error))
        return span

    def _add_parts(self, span: Span, record: RequestRecord, sharing: dict[int, list[Span]]) -> None:
        if not record.parsed:
            return
        self._span("ml.parse", record.started, span).finish(self._epoch + record.parsed)
        if not record.calls:
            return
        self._span("ml.queue", record.parsed, span).finish(self._epoch + record.calls[0].started)
        for call in record.calls:
            self._add_batch(span, call, [other for other in sharing[id(call)] if other is not span])
        if record.computed:
            self._span("ml.answer", record.computed, span).finish(self._epoch + record.finished)

    def _add_batch(self, parent: Span, call: ModelCall, others: list[Span]) -> None:
        batch = self._span("ml.batch", call.started, parent)
        batch.set_metric("rows", call.rows)
        batch.set_metric("requests", call.requests)
        batch.set_metric("waiting", call.waiting)
        for other in others:
            batch.link_span(other.context)
        self._span("ml.model", call.started, batch).finish(self._epoch + call.ended)
        batch.finish(self._epoch + call.ended)

    def _span(self, name: str, started: float, parent: Span | Context | None, kind: str | None = None) -> Span:
        span = tracer.start_span(name, child_of=parent, span_type=kind, activate=False)
        span.start_ns = int((self._epoch + started) * 1e9)
        return span


def _epoch() -> float:
    """When the monotonic clock began, in seconds since 1970."""
    return time.time() - time.monotonic()


def _decision(environ: dict[str, Any]) -> bool | None:
    """Whether the caller traces this request; None if it says nothing. Not parsed: this is for every request."""
    priority = environ.get("HTTP_X_DATADOG_SAMPLING_PRIORITY")
    if priority is not None:
        return priority in ("1", "2")
    parent: str = environ.get("HTTP_TRACEPARENT", "")
    # W3C Trace Context: version-trace-parent-flags, and bit 0 of the flags is `sampled`.
    return parent[-1:] in "13579bdf" if len(parent) >= 55 else None


def _caller(environ: dict[str, Any]) -> Context | None:
    if "HTTP_X_DATADOG_TRACE_ID" not in environ and "HTTP_TRACEPARENT" not in environ:
        return None
    headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}
    context: Context = HTTPPropagator.extract(headers)  # type: ignore[no-untyped-call]
    return context
