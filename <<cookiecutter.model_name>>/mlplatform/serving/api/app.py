"""The Flask application: what is served, and health. Predictions are answered in front of it, see predict.py."""

import time
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import BaseConverter

from mlplatform.serving.api import feedback as feedback_body
from mlplatform.serving.api import openapi
from mlplatform.serving.api.predict import Inference, failure
from mlplatform.serving.errors import RequestError, status_line
from mlplatform.serving.ghost import message
from mlplatform.serving.ghost.event_log import EventLog
from mlplatform.serving.ghost.replay import Replay
from mlplatform.serving.http.request_body import read_body
from mlplatform.serving.model.service import ServedModel, Service
from mlplatform.serving.model.signature import Tensor
from mlplatform.serving.observability.request_record import Exchange, Observer, notify
from mlplatform.serving.protocols import v2
from mlplatform.serving.protocols.v1 import SIGNATURE_NAME

_PAGES_DIRECTORY = Path(__file__).with_name("pages")
_PAGES = {
    "index.html": "text/html",
    "docs.html": "text/html",
    "style.css": "text/css",
    "index.js": "text/javascript",
    "docs.js": "text/javascript",
}
_TF_TYPES = {"bool": "DT_BOOL", "float16": "DT_HALF", "float32": "DT_FLOAT", "float64": "DT_DOUBLE"}


class _Version(BaseConverter):
    """A version or label in a path; what follows a colon is the verb."""

    regex = "[^/:]+"


def create_app(
    service: Service,
    observers: Sequence[Observer] = (),
    log: EventLog | None = None,
    replay: Replay | None = None,
) -> Flask:
    """The application around one service; its `wsgi_app` answers the predict routes by itself, unless it has hooks.

    observers: are told of every request to those routes. log: where feedback is kept. replay: takes copies of
    requests, in a ghost.
    """
    app = Flask(__name__, static_folder=None)
    app.url_map.converters["version"] = _Version
    hooks = (
        app.before_request_funcs,
        app.after_request_funcs,
        app.teardown_request_funcs,
        app.url_value_preprocessors,
    )
    inference = Inference(service, observers, hooks)
    app.extensions["inference"] = inference
    _add_pages(app, service)
    _add_v1(app, service, inference)
    _add_v2(app, service, inference)
    _add_feedback(app, service, log)
    if replay is not None:
        _add_copies(app, service, replay)
    _add_health(app, service)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(RequestError, _request_error)
    return app


def _add_pages(app: Flask, service: Service) -> None:
    @app.get("/")
    def index() -> Response:
        """A page for browsers; for everybody else the same as JSON, which KServe's client takes for a sign of life."""
        if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
            return _page("index.html")
        model = service.model
        return _json(
            {
                "status": "alive",
                "name": service.name,
                "ready": not service.not_ready(),
                "reason": service.not_ready() or None,
                "template": service.template_version or None,
                "uptime_seconds": round(time.monotonic() - service.started),
                "model": _summary(service, model) if model else None,
                "paths": {"predict": f"/v1/models/{service.name}:predict", "infer": f"/v2/models/{service.name}/infer"},
            }
        )

    @app.get("/docs")
    def docs() -> Response:
        return _page("docs.html")

    @app.get("/openapi.json")
    def api() -> Response:
        return _json(openapi.document(service))

    @app.get("/pages/<name>")
    def page(name: str) -> Response:
        if name not in _PAGES:
            raise NotFound
        return _page(name)


def _add_v1(app: Flask, service: Service, inference: Inference) -> None:
    base = f"/v1/models/{service.name}"

    @app.get("/v1/models")
    def models() -> Response:
        return _json({"models": [service.name]})

    @app.get(base)
    @app.get(f"{base}/versions/<version:version>")
    @app.get(f"{base}/labels/<version:label>")
    def status(version: str | None = None, label: str | None = None) -> Response:
        """One answer for both dialects: name and ready for KServe, model_version_status for TensorFlow Serving."""
        if service.model is None and version is None and label is None:
            return _json({"name": service.name, "ready": False, "model_version_status": []})
        model = service.require(version, label)
        state = {
            "version": model.manifest.id,
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }
        return _json({"name": service.name, "ready": not service.not_ready(), "model_version_status": [state]})

    @app.get(f"{base}/metadata")
    @app.get(f"{base}/versions/<version:version>/metadata")
    @app.get(f"{base}/labels/<version:label>/metadata")
    def metadata(version: str | None = None, label: str | None = None) -> Response:
        model = service.require(version, label)
        tensors = model.signature
        definition = {
            "inputs": {tensor.name: _tensor_info(tensor) for tensor in tensors.inputs},
            "outputs": {tensor.name: _tensor_info(tensor) for tensor in tensors.outputs},
            "method_name": "tensorflow/serving/predict",
        }
        return _json(
            {
                "model_spec": {"name": service.name, "signature_name": "", "version": model.manifest.id},
                "metadata": {"signature_def": {"signature_def": {SIGNATURE_NAME: definition}}},
            }
        )

    @app.post(f"{base}:predict")
    def predict() -> Response:
        return _answer(inference, inference.predict_v1(request.environ))

    @app.post(f"{base}/versions/<version:version>:predict")
    def predict_version(version: str) -> Response:
        return _answer(inference, inference.predict_v1(request.environ, version))

    @app.post(f"{base}/labels/<version:label>:predict")
    def predict_label(label: str) -> Response:
        return _answer(inference, inference.predict_v1(request.environ, label=label))


def _add_feedback(app: Flask, service: Service, log: EventLog | None) -> None:
    @app.post("/v1/feedback")
    def feedback() -> Response:
        if log is None or not log.on:
            raise feedback_body.not_kept()
        model = service.model
        known = tuple(model.manifest.properties.get("labels") or ()) if model else ()
        body = read_body(request.environ, service.settings.max_body_bytes)
        id, labels = feedback_body.decode(body, known)
        if not log.label(id, labels):
            raise feedback_body.no_room()
        return _json({"request_id": id, "labels": labels}, HTTPStatus.ACCEPTED)


def _add_copies(app: Flask, service: Service, replay: Replay) -> None:
    @app.post(message.PATH)
    def copies() -> Response:
        """Bundles of the live service."""
        service.require()
        most = service.settings.max_body_bytes + 4 * message.MOST_BYTES
        replay.take(read_body(request.environ, most), request.headers.get(message.SENT_HEADER))
        return Response(status=HTTPStatus.ACCEPTED)


def _add_v2(app: Flask, service: Service, inference: Inference) -> None:
    base = f"/v2/models/{service.name}"

    @app.get("/v2")
    def server_metadata() -> Response:
        return _json({"name": "ml-service", "version": "2", "extensions": ["binary_tensor_data"]})

    @app.get(base, endpoint="v2_metadata")
    @app.get(f"{base}/versions/<version:version>", endpoint="v2_metadata_version")
    def model_metadata(version: str | None = None) -> Response:
        model = service.require(version)
        return _json(v2.metadata(model.signature, service.name, model.manifest.id))

    @app.get(f"{base}/ready", endpoint="v2_ready")
    @app.get(f"{base}/versions/<version:version>/ready", endpoint="v2_ready_version")
    def model_ready(version: str | None = None) -> Response:
        reason = service.not_ready()
        if not reason:
            service.require(version)
        return _health({"name": service.name, "ready": not reason}, reason)

    @app.post(f"{base}/infer")
    def infer() -> Response:
        return _answer(inference, inference.infer_v2(request.environ))

    @app.post(f"{base}/versions/<version:version>/infer")
    def infer_version(version: str) -> Response:
        return _answer(inference, inference.infer_v2(request.environ, version))


def _add_health(app: Flask, service: Service) -> None:
    @app.get("/v2/health/live")
    def live() -> Response:
        reason = service.not_live()
        return _health({"live": not reason}, reason)

    @app.get("/v2/health/ready")
    def ready() -> Response:
        reason = service.not_ready()
        return _health({"live": not service.not_live(), "ready": not reason, "name": service.name}, reason)


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
        "runtime": service.settings.runtime,
        "signature": properties["signature"],
        "labels": properties.get("labels"),
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


def _answer(inference: Inference, exchange: Exchange) -> Response:
    headers, body = inference.packed(exchange)
    response = Response(body, status_line(exchange.status), list(headers))
    response.call_on_close(lambda: notify(inference.observers, exchange))
    return response


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
