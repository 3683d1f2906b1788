"""The Flask application: what is served, and health. Predictions are answered in front of it, see predict.py."""

import os
import re
import time
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import BaseConverter

from mlplatform.contract.runtimes import exported_for
from mlplatform.serving.api import feedback as feedback_body
from mlplatform.serving.api import openapi
from mlplatform.serving.api.predict import Inference, failure
from mlplatform.serving.api.routes import ROUTES
from mlplatform.serving.errors import RequestError, status_line
from mlplatform.serving.ghost import message
from mlplatform.serving.ghost.event_log import EventLog
from mlplatform.serving.ghost.replay import Replay
from mlplatform.serving.http.request_body import read_body
from mlplatform.serving.model.service import ServedModel, Service
from mlplatform.serving.model.signature import Tensor
from mlplatform.serving.observability.request_record import Observer, RequestRecord, notify
from mlplatform.serving.observability.shared_totals import SharedTotals
from mlplatform.serving.protocols import v2
from mlplatform.serving.protocols.v1 import SIGNATURE_NAME
from mlplatform.telemetry import openmetrics

_PAGES_DIRECTORY = Path(__file__).with_name("pages")
_PAGES = {
    "index.html": "text/html",
    "docs.html": "text/html",
    "style.css": "text/css",
    "common.js": "text/javascript",
    "index.js": "text/javascript",
    "docs.js": "text/javascript",
    "samples.js": "text/javascript",
}
_TF_TYPES = {"bool": "DT_BOOL", "float16": "DT_HALF", "float32": "DT_FLOAT", "float64": "DT_DOUBLE"}


class _Segment(BaseConverter):
    """A version, a label, or the name of a page; what follows a colon is the verb."""

    regex = "[^/:]+"


def create_app(
    service: Service,
    observers: Sequence[Observer] = (),
    log: EventLog | None = None,
    replay: Replay | None = None,
    totals: SharedTotals | None = None,
) -> Flask:
    """The application around one service. `extensions["inference"]` answers predict requests without it.

    observers: are given every predict request. log: where feedback is kept. replay: takes copies of requests, in a
    ghost. totals: what /metrics answers with.
    """
    app = Flask(__name__, static_folder=None)
    app.url_map.converters["segment"] = _Segment
    hooks = (
        app.before_request_funcs,
        app.after_request_funcs,
        app.teardown_request_funcs,
        app.url_value_preprocessors,
    )
    inference = Inference(service, observers, hooks)
    app.extensions["inference"] = inference
    views = _Views(service, inference, log, replay, totals)
    absent = {view for view, needed in (("copies", replay), ("metrics", totals)) if needed is None}
    for route in ROUTES:
        if route.view in absent:
            continue
        for path, named in route.paths(service.name):
            rule = re.sub(r"\{(\w+)\}", r"<segment:\1>", path)
            endpoint = f"{route.view}-{named}" if named else route.view
            app.add_url_rule(rule, endpoint, getattr(views, route.view), methods=[route.method])
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(RequestError, _request_error)
    return app


class _Views:
    """What answers the routes, by the names in ROUTES. version, label: those named in the path."""

    def __init__(
        self,
        service: Service,
        inference: Inference,
        log: EventLog | None,
        replay: Replay | None,
        totals: SharedTotals | None,
    ) -> None:
        self._service = service
        self._inference = inference
        self._log = log
        self._replay = replay
        self._totals = totals

    def index(self) -> Response:
        """A page for browsers; for everybody else the same as JSON, which KServe's client takes for a sign of life."""
        if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
            return _page("index.html")
        service, model = self._service, self._service.model
        return _json(
            {
                "status": "alive",
                "name": service.name,
                "description": service.description or None,
                "ready": not service.not_ready(),
                "reason": service.not_ready() or None,
                "template": service.template_version or None,
                "uptime_seconds": round(time.monotonic() - service.started),
                "model": _summary(service, model) if model else None,
                "paths": {"predict": f"/v1/models/{service.name}:predict", "infer": f"/v2/models/{service.name}/infer"},
            }
        )

    def docs(self) -> Response:
        return _page("docs.html")

    def document(self) -> Response:
        return _json(openapi.document(self._service))

    def page(self, page: str) -> Response:
        if page not in _PAGES:
            raise NotFound
        return _page(page)

    def models(self) -> Response:
        return _json({"models": [self._service.name]})

    def status(self, version: str | None = None, label: str | None = None) -> Response:
        """One answer for both dialects: name and ready for KServe, model_version_status for TensorFlow Serving."""
        service = self._service
        if service.model is None and version is None and label is None:
            return _json({"name": service.name, "ready": False, "model_version_status": []})
        model = service.require(version, label)
        state = {
            "version": model.manifest.id,
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }
        return _json({"name": service.name, "ready": not service.not_ready(), "model_version_status": [state]})

    def metadata_v1(self, version: str | None = None, label: str | None = None) -> Response:
        model = self._service.require(version, label)
        tensors = model.signature
        definition = {
            "inputs": {tensor.name: _tensor_info(tensor) for tensor in tensors.inputs},
            "outputs": {tensor.name: _tensor_info(tensor) for tensor in tensors.outputs},
            "method_name": "tensorflow/serving/predict",
        }
        metadata: dict[str, Any] = {"signature_def": {"signature_def": {SIGNATURE_NAME: definition}}}
        if model.labels:
            metadata["labels"] = model.labels
        specification = {"name": self._service.name, "signature_name": "", "version": model.manifest.id}
        return _json({"model_spec": specification, "metadata": metadata})

    def predict(self, version: str | None = None, label: str | None = None) -> Response:
        return self._answer(self._inference.predict_v1(request.environ, version, label))

    def feedback(self) -> Response:
        if self._log is None or not self._log.on:
            raise feedback_body.not_kept()
        settings, model = self._service.settings, self._service.model
        body = read_body(request.environ, settings.max_body_bytes)
        id, labels = feedback_body.decode(body, model.target if model else None, settings.max_instances)
        if not self._log.label(id, labels):
            raise feedback_body.no_room()
        return _json({"request_id": id, "labels": labels}, HTTPStatus.ACCEPTED)

    def copies(self) -> Response:
        """Copies of requests, from the live service."""
        assert self._replay is not None  # noqa: S101 - the route is there for a ghost only
        self._service.require()
        most = self._service.settings.max_body_bytes + 4 * message.MOST_BYTES
        self._replay.take(read_body(request.environ, most), request.headers.get(message.SENT_HEADER))
        return Response(status=HTTPStatus.ACCEPTED)

    def metrics(self) -> Response:
        """The metrics of all workers, for Prometheus."""
        assert self._totals is not None  # noqa: S101 - the route is there where they are kept only
        unified = {name: os.environ.get(f"DD_{name.upper()}", "") for name in ("env", "version")}
        service = self._service
        text = self._totals.totals().text(service=service.name, role=service.settings.role, **unified)
        return Response(text, content_type=openmetrics.CONTENT_TYPE)

    def server_metadata(self) -> Response:
        return _json({"name": "ml-service", "version": "2", "extensions": ["binary_tensor_data"]})

    def metadata_v2(self, version: str | None = None) -> Response:
        model = self._service.require(version)
        runtime = exported_for(model.manifest.properties)
        return _json(v2.metadata(model.signature, self._service.name, model.manifest.id, model.labels, runtime))

    def model_ready(self, version: str | None = None) -> Response:
        reason = self._service.not_ready()
        if not reason:
            self._service.require(version)
        return _health({"name": self._service.name, "ready": not reason}, reason)

    def infer(self, version: str | None = None) -> Response:
        return self._answer(self._inference.infer_v2(request.environ, version))

    def live(self) -> Response:
        reason = self._service.not_live()
        return _health({"live": not reason}, reason)

    def ready(self) -> Response:
        reason = self._service.not_ready()
        return _health({"live": not self._service.not_live(), "ready": not reason, "name": self._service.name}, reason)

    def _answer(self, exchange: RequestRecord) -> Response:
        headers, body = self._inference.packed(exchange)
        response = Response(body, status_line(exchange.status), list(headers))
        response.call_on_close(lambda: notify(self._inference.observers, exchange))
        return response


def _health(state: dict[str, Any], reason: str) -> Response:
    if reason:
        state["error"] = reason
    return _json(state, HTTPStatus.SERVICE_UNAVAILABLE if reason else HTTPStatus.OK)


def _summary(service: Service, model: ServedModel) -> dict[str, Any]:
    """What the front page says of a model: JSON values."""
    properties = model.manifest.properties
    return {
        "version": model.manifest.id,
        "created_at": model.manifest.created_at,
        "bytes": model.manifest.size,
        "runtime": service.settings.runtime,
        "signature": properties["signature"],
        "labels": model.labels or None,
        "targets": properties.get("targets"),
        "metrics": properties.get("metrics"),
        "samples": properties.get("samples"),
    }


def _tensor_info(tensor: Tensor) -> dict[str, Any]:
    """TensorFlow Serving's TensorInfo: sizes are strings, -1 is any."""
    sizes = (None, *tensor.shape)
    return {
        "dtype": _TF_TYPES.get(tensor.dtype, f"DT_{tensor.dtype.upper()}"),
        "tensor_shape": {
            "dim": [{"size": "-1" if size is None else str(size), "name": ""} for size in sizes],
            "unknown_rank": False,
        },
        "name": tensor.name,
    }


def _page(name: str) -> Response:
    """A file of pages/. It loads nothing from elsewhere, and the browser is told to hold it to that."""
    return Response(
        (_PAGES_DIRECTORY / name).read_bytes(),
        mimetype=_PAGES[name],
        headers={"Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src data:"},
    )


def _json(content: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(orjson.dumps(content), status_line(status), mimetype="application/json")


def _request_error(error: RequestError) -> Response:
    status, headers, body = failure(error)
    return Response(body, status_line(status), headers)


def _http_error(error: HTTPException) -> Response:
    """Flask's own errors (no such page, wrong method) in the form of all others."""
    reason = error.description or error.name
    if error.code == HTTPStatus.NOT_FOUND:
        reason = f"there is no {request.path} here; GET / says what is"
    response = _json({"error": reason}, HTTPStatus(error.code or 500))
    response.headers.extend(header for header in error.get_headers() if header[0] != "Content-Type")
    return response
