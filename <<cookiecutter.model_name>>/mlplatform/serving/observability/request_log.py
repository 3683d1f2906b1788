"""A log line for requests that failed, and for a share of the others.

Never a body or a part of it: it may hold anything. Only its sender learns what was wrong with it.
"""

import logging
import random
from http import HTTPStatus

from mlplatform.serving.observability.request_record import RequestRecord

LOG = logging.getLogger("serving.requests")
MOST = 10
"""Lines in a second: under overload, lines for thousands of refusals would make it worse."""


class RequestLog:
    """Observes requests. rate: share of the good ones that is logged. `tick` is to be called every second."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._left = MOST
        self._kept_back = 0

    def __call__(self, record: RequestRecord) -> None:
        """Log a record, if it failed or is drawn."""
        if record.error is None and not (self._rate and random.random() < self._rate):  # noqa: S311
            return
        status = record.status
        if not self._left:
            self._kept_back += 1
            return
        self._left -= 1
        environ = record.environ
        extra = {
            "request_id": record.request_id,
            "model_version": record.version or None,
            "http.method": environ["REQUEST_METHOD"],
            "http.url_details.path": environ["PATH_INFO"],
            "http.status_code": int(status),
            # Nanoseconds, as Datadog's standard attribute has it.
            "duration": round(record.seconds * 1e9),
            "rows": record.rows,
        }
        if record.trace is not None:
            extra["trace_id"], extra["span_id"] = f"{record.trace[0]:032x}", str(record.trace[1])
        # That of a 400 quotes the value that is wrong.
        reason = f": {record.error}" if record.error and status != HTTPStatus.BAD_REQUEST else ""
        LOG.log(
            logging.ERROR if status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO,
            "%s %s %d in %.1f ms, request %s%s",
            environ["REQUEST_METHOD"],
            environ["PATH_INFO"],
            status,
            1000 * record.seconds,
            record.request_id,
            reason,
            extra=extra,
        )

    def tick(self) -> None:
        """Let more lines through, and say how many were kept back."""
        if self._kept_back:
            LOG.warning("%d more requests failed or were drawn in the last second", self._kept_back)
        self._left, self._kept_back = MOST, 0
