"""One predict request and its answer, as those see it who watch: metrics, traces, logs, the mirror to a ghost."""

import logging
from collections.abc import Callable, Sequence
from http import HTTPStatus
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from mlplatform.contract.events import is_request_id
from mlplatform.serving.model.batching import Arrays, ModelCall

if TYPE_CHECKING:
    from mlplatform.serving.model.service import ServedModel

LOG = logging.getLogger("gunicorn.error")
Headers = list[tuple[str, str]]


class RequestRecord:
    """What happened to one predict request. Everything is held by reference and is not to be changed.

    protocol: v1 or v2. request_id: the client's X-Request-ID, or one made here. body: the request's, decompressed;
    empty if it was not read. inputs, outputs: arrays of (rows, ...) in the signature's order, empty if it did not come
    so far. calls: the model calls it waited for, several for a request larger than a batch. answer: the body, before
    it is compressed. error: why there is no prediction; a RequestError, or what was not foreseen. model: None while
    there is none.

    Times are seconds on the monotonic clock, 0 for what was not reached: `started` the headers are here, `read` so is
    the body, `parsed` it waits for the model, `computed` the outputs are here, `finished` the answer is made.
    """

    # Class attributes: an __init__ that sets them all takes longer, at every request.
    body = b""
    rows = 0
    inputs: Arrays = ()
    outputs: Arrays = ()
    read = 0.0
    parsed = 0.0
    computed = 0.0
    finished = 0.0
    status = HTTPStatus.OK
    headers: Sequence[tuple[str, str]] = ()
    answer = b""
    error: Exception | None = None
    trace: tuple[int, int] | None = None
    model: "ServedModel | None" = None

    def __init__(self, protocol: str, environ: dict[str, Any], request_id: str, started: float) -> None:
        self.protocol = protocol
        self.environ = environ
        self.request_id = request_id
        self.started = started
        self.calls: list[ModelCall] = []

    @property
    def version(self) -> str:
        """The model version that answered; empty if there was none."""
        return self.model.manifest.id if self.model else ""

    @property
    def seconds(self) -> float:
        """From the request's headers to its answer, in seconds."""
        return self.finished - self.started

    @property
    def queue_seconds(self) -> float:
        """How long it waited until the model began with it."""
        return self.calls[0].started - self.parsed if self.calls else 0.0

    @property
    def model_seconds(self) -> float:
        """How long the model calls took that computed it, others' rows included."""
        return sum(call.ended - call.started for call in self.calls)


Observer = Callable[[RequestRecord], None]
"""Called in the event loop once an answer has been sent. It must not block; if it raises, the client never learns."""


class RequestIds:
    """Ids for requests that come without one. One per process, made after the fork."""

    def __init__(self) -> None:
        # A counter behind a random prefix: a UUID for every request takes longer.
        self._prefix = uuid4().hex[:20]
        self._numbers = count(1)

    def of(self, environ: dict[str, Any]) -> str:
        """The client's id if it is 1 to 128 printable ASCII characters, else a new one."""
        given: str | None = environ.get("HTTP_X_REQUEST_ID")
        if is_request_id(given):
            return given
        return f"{self._prefix}{next(self._numbers):012x}"


def notify(observers: Sequence[Observer], record: RequestRecord) -> None:
    """Hand a record to each observer; one that fails is logged and does not keep it from the others."""
    for observe in observers:
        try:
            observe(record)
        except Exception:
            LOG.exception("the observer %r failed", observe)
