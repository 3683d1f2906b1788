"""From the bytes of a predict request to the bytes of its answer.

A connection asks here first whether a request can be answered without WSGI and Flask, which take longer than parsing
and computing a small request together. Flask has the same routes with the same functions behind them, for the rarer
spellings. Where the application has hooks, such as a `before_request` that checks who asks, everything goes through
Flask.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

import gevent

from mlplatform.contract.events import REQUEST_ID_HEADER
from mlplatform.serving.api.large_bodies import PIECE, LargeBodies, rows_in_pieces
from mlplatform.serving.api.routes import ROUTES
from mlplatform.serving.errors import OverloadedError, RequestError, bad_request, status_line
from mlplatform.serving.http.compression import compress
from mlplatform.serving.http.connection import Answer
from mlplatform.serving.http.header_values import header_number, shorten
from mlplatform.serving.http.request_body import Sender, read_body
from mlplatform.serving.model.service import ServedModel, Service
from mlplatform.serving.model.signature import Array, Signature
from mlplatform.serving.observability.predictions import predicted
from mlplatform.serving.observability.request_record import Headers, Observer, RequestIds, RequestRecord, notify
from mlplatform.serving.protocols import v1, v2

LOG = logging.getLogger("gunicorn.error")
Environ = dict[str, Any]
JSON = ("Content-Type", "application/json")
TIMEOUT_HEADER = "X-Request-Timeout-Ms"

_IMPATIENT_SECONDS = 0.2
_LONGEST_MS = 10**8 - 1
# TensorFlow Serving takes any. curl -d sends the form type, and some clients the type of text, or of any bytes.
_JSON_TYPES = (
    *("application/json", "application/x-www-form-urlencoded", "application/octet-stream"),
    *("text/json", "text/plain", ""),
)


class Inference:
    """The predict routes of one service.

    observers: called after every request to them, whatever became of it. hooks: Flask's tables of hooks.
    """

    def __init__(
        self,
        service: Service,
        observers: Sequence[Observer] = (),
        hooks: Sequence[Mapping[Any, Any]] = (),
    ) -> None:
        self._service = service
        self._hooks = hooks
        self.observers = observers
        self._ids = RequestIds()
        self._silent = service.settings.role == "ghost"
        self._large = LargeBodies()
        answers = {"v1": self.predict_v1, "v2": self.infer_v2}
        self._routes = {
            (route.method, path): answers[route.predicts]
            for route in ROUTES
            for path, named in route.paths(service.name)
            if route.predicts and not named
        }

    def directly(self, environ: Environ) -> Answer | None:
        """The answer to a predict request; None for every other, and where the application has hooks."""
        answer = self._routes.get((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        if answer is None or any(self._hooks):
            return None
        exchange = answer(environ)
        headers, body = self.packed(exchange)
        return Answer(status_line(exchange.status), headers, body, partial(notify, self.observers, exchange))

    def packed(self, exchange: RequestRecord) -> tuple[Sequence[tuple[str, str]], bytes]:
        """Headers and body as they are sent: a large answer is compressed if the client accepts that."""
        if 0 < self._service.settings.compress_bytes <= len(exchange.answer):
            accepted = exchange.environ.get("HTTP_ACCEPT_ENCODING", "")
            return compress(accepted, exchange.headers, exchange.answer)
        return exchange.headers, exchange.answer

    def predict_v1(self, environ: Environ, version: str | None = None, label: str | None = None) -> RequestRecord:
        """POST /v1/models/<name>:predict. version, label: those asked for, None for any."""
        return self._exchange("v1", environ, self._answer_v1, version, label)

    def infer_v2(self, environ: Environ, version: str | None = None) -> RequestRecord:
        """POST /v2/models/<name>/infer. version: the one asked for, None for any."""
        return self._exchange("v2", environ, self._answer_v2, version)

    def _answer_v1(self, exchange: RequestRecord, model: ServedModel) -> tuple[Headers, bytes]:
        environ, settings = exchange.environ, self._service.settings
        _require_json(environ)
        asked = _asks_for_labels(environ)
        deadline = _deadline(environ, settings.deadline_ms)
        self._read(exchange, model, deadline)
        request = self._decode_v1(exchange.body, model.signature)
        outputs = _compute(exchange, model, request, deadline)
        labels = _labels(model, outputs) if asked else None
        return [JSON], v1.encode(outputs, model.signature, request.by_row, labels)

    def _answer_v2(self, exchange: RequestRecord, model: ServedModel) -> tuple[Headers, bytes]:
        environ, settings = exchange.environ, self._service.settings
        json_length = environ.get("HTTP_INFERENCE_HEADER_CONTENT_LENGTH")
        if json_length is None:
            _require_json(environ)
        asked = _asks_for_labels(environ)
        deadline = _deadline(environ, settings.deadline_ms)
        self._read(exchange, model, deadline)
        request = self._decode_v2(exchange.body, json_length, model.signature)
        outputs = _compute(exchange, model, request, deadline)
        labels = _labels(model, outputs) if asked or request.labels else None
        return v2.encode(outputs, model.signature, request, self._service.name, model.manifest.id, labels)

    def _decode_v1(self, body: bytes, signature: Signature) -> v1.Request:
        most = self._service.settings.max_instances
        if len(body) <= PIECE:
            return v1.decode(body, signature, most)
        request = rows_in_pieces(body, signature, most)
        return request or self._large.apply(lambda: v1.decode(body, signature, most))

    def _decode_v2(self, body: bytes, json_length: str | None, signature: Signature) -> v2.Request:
        most = self._service.settings.max_instances
        # Raw bytes are taken as they are; what may be long is the JSON.
        if json_length is not None or len(body) <= PIECE:
            return v2.decode(body, json_length, signature, most)
        return self._large.apply(lambda: v2.decode(body, json_length, signature, most))

    def _read(self, exchange: RequestRecord, model: ServedModel, deadline: float) -> None:
        # Of what is refused anyway not even the body is read.
        model.batcher.admit(1, deadline)
        exchange.body = read_body(exchange.environ, self._service.settings.max_body_bytes)
        exchange.read = time.monotonic()

    def _exchange(
        self,
        protocol: str,
        environ: Environ,
        answer: Callable[[RequestRecord, ServedModel], tuple[Headers, bytes]],
        version: str | None,
        label: str | None = None,
    ) -> RequestRecord:
        """Run `answer` with the model; every failure becomes an answer, too."""
        exchange = RequestRecord(protocol, environ, self._ids.of(environ), time.monotonic())
        try:
            self._service.await_model()
            exchange.model = self._service.model
            headers, exchange.answer = answer(exchange, self._service.require(version, label))
            if self._silent:
                # Made all the same, so that a ghost takes the time it would take live.
                exchange.status, headers, exchange.answer = HTTPStatus.ACCEPTED, [], b""
        except RequestError as error:
            if isinstance(error, OverloadedError):
                _slow_down(environ["serving.connection"], error)
            exchange.error = error
            exchange.status, headers, exchange.answer = failure(error)
        except Exception as error:
            LOG.exception("a predict request failed", extra={"request_id": exchange.request_id})
            exchange.error = error
            exchange.status, headers, exchange.answer = failure(
                RequestError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; the server's log says more")
            )
        exchange.headers = [*headers, (REQUEST_ID_HEADER, exchange.request_id)]
        exchange.finished = time.monotonic()
        return exchange


def _compute(
    exchange: RequestRecord, model: ServedModel, request: v1.Request | v2.Request, deadline: float
) -> Sequence[Array]:
    exchange.inputs, exchange.rows = request.arrays, request.rows
    exchange.parsed = time.monotonic()
    gone = exchange.environ["serving.connection"].gone
    outputs = model.batcher.compute(request.arrays, request.rows, deadline, gone, exchange.calls)
    exchange.computed = time.monotonic()
    exchange.outputs = outputs
    return outputs


def _asks_for_labels(environ: Environ) -> bool:
    """Whether the query says `labels=true`."""
    query = environ.get("QUERY_STRING")
    if not query:
        return False
    asked: str = parse_qs(query).get("labels", ["false"])[-1]
    if asked not in ("true", "false"):
        raise bad_request(f"labels is {shorten(asked)!r} in the query; expected true or false")
    return asked == "true"


def _labels(model: ServedModel, outputs: Sequence[Array]) -> Sequence[str | list[str]]:
    """The label of each row, or its tags. Raises RequestError (400) if the model has none."""
    labels = predicted(model, [outputs]).labels
    target = model.target
    if labels is None or (target and not target.has_labels):
        raise bad_request("labels were asked for, and the model has none")
    return target.label_values(labels) if target else labels


def _slow_down(connection: Sender, error: OverloadedError) -> None:
    """Let a client wait that was refused and has asked again before the time it was told.

    Clients that ask again at once take the processor from the model, which then answers fewer.
    """
    if time.monotonic() < connection.refused_until:
        gevent.sleep(_IMPATIENT_SECONDS)
    connection.refused_until = time.monotonic() + error.retry_after


def failure(error: RequestError) -> tuple[HTTPStatus, Headers, bytes]:
    """An error as an answer: `{"error": reason}`."""
    return error.status, [JSON, *error.headers], error.body


def _require_json(environ: Environ) -> None:
    content_type = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    if content_type not in _JSON_TYPES and not content_type.endswith("+json"):
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Type is {content_type!r}; expected application/json",
        )


def _deadline(environ: Environ, default_ms: int) -> float:
    """When the answer must be there, on the monotonic clock; a client may ask for less time than the default."""
    asked = environ.get("HTTP_X_REQUEST_TIMEOUT_MS")
    if asked is None:
        return time.monotonic() + default_ms / 1000
    milliseconds = header_number(asked, _LONGEST_MS)
    if not milliseconds:
        raise bad_request(f"{TIMEOUT_HEADER} is {shorten(asked)!r}; expected whole milliseconds, at most {_LONGEST_MS}")
    return time.monotonic() + min(milliseconds, default_ms) / 1000
