"""The OpenAPI 3.1 document of what is served: written from the model's own signature, so that it says what is true."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlplatform.contract.events import LONGEST_ID
from mlplatform.contract.targets import Target
from mlplatform.serving.api.routes import ROUTES
from mlplatform.serving.model.service import LABELS, ServedModel, Service
from mlplatform.serving.model.signature import Tensor
from mlplatform.serving.protocols.v1 import SIGNATURE_NAME
from mlplatform.serving.protocols.v2 import DATATYPES
from mlplatform.telemetry import openmetrics

Schema = dict[str, Any]


def document(service: Service) -> Schema:
    """The document, as JSON values. While there is no model it describes health alone."""
    model = service.model
    operations = _operations(service, model)
    paths: Schema = {}
    for route in ROUTES:
        for path, named in route.paths(service.name) if route.view in operations else ():
            operation = _naming(operations[route.view], named, model) if named else operations[route.view]
            identity = {"operationId": "_".join(filter(None, (route.view, named))), "tags": [_tag(path)]}
            paths.setdefault(path, {})[route.method.lower()] = operation | identity
    return {
        "openapi": "3.1.0",
        "info": {
            "title": service.name,
            "version": model.manifest.id if model else "none",
            "description": "Predictions over TensorFlow Serving's and KServe's V1 protocol, and Open Inference V2.",
        },
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {"schemas": {"Error": _object({"error": {"type": "string"}})}},
    }


_V1, _V2, _SERVER = "V1 protocol", "V2 protocol", "The server"
_TAGS = {
    _V1: "What the clients of TensorFlow Serving and KServe's V1 call.",
    _V2: "Open Inference V2: what the clients of Triton, KServe and MLServer call.",
    _SERVER: "What is served, and whether it is well.",
}


def _tag(path: str) -> str:
    """The group of a path: the protocol that it is of."""
    if "/health/" in path:
        return _SERVER
    return next((tag for start, tag in (("/v1", _V1), ("/v2", _V2)) if path.startswith(start)), _SERVER)


def _operations(service: Service, model: ServedModel | None) -> dict[str, Schema]:
    """What describes the routes of the document, by their view."""
    health = _with("live")
    described = {
        "index": _operation("What is served", {"type": "object"}, also="text/html"),
        "models": _operation("The models", _object({"models": _list_of({"type": "string"})})),
        "server_metadata": _operation(
            "Server metadata", {"type": "object", "required": ["name", "version", "extensions"]}
        ),
        "live": _operation("Liveness", health, 503),
        "ready": _operation("Readiness", health, 503),
    }
    if service.settings.events:
        target = (model.target if model else None) or Target
        described["feedback"] = _feedback(service.settings.max_instances, target.feedback_schema)
    if service.settings.prometheus:
        described["metrics"] = _operation("Metrics, in OpenMetrics' format", {"type": "string"}, media=_OPENMETRICS)
    if model is not None:
        described |= {
            "status": _operation("Model status", _with("name", "ready", "model_version_status")),
            "metadata_v1": _operation("Model metadata", _with("model_spec"), 503),
            "predict": _with_labels(_predict(service, model)),
            "metadata_v2": _operation("Model metadata", _with("name", "versions", "inputs", "outputs"), 503),
            "model_ready": _operation("Model readiness", _with("name", "ready"), 503),
            "infer": _with_labels(_infer(service, model)),
        }
    return described


def _feedback(most: int, truth: Mapping[str, Any]) -> Schema:
    label = {**truth, "type": [*truth["type"], "null"]}
    request_id = {"request_id": {"type": "string", "minLength": 1, "maxLength": LONGEST_ID, "pattern": "^[ -~]+$"}}
    given = {"label": label, "labels": {"type": "array", "items": label, "minItems": 1, "maxItems": most}}
    request = {"oneOf": [_object({**request_id, name: schema}) for name, schema in given.items()]}
    answer = _object({**request_id, "labels": {"type": "array"}})
    operation = _operation("Tell what a request really was", answer, 400, 408, 413, 415, 501, 503)
    operation["responses"]["202"] = operation["responses"].pop("200")
    return operation | _body(request, {"request_id": "X-Request-ID of the answer", "label": "what it was"})


def _predict(service: Service, model: ServedModel) -> Schema:
    inputs, outputs = model.signature.inputs, model.signature.outputs
    values = {tensor: _values(tensor, tensor.shape) for tensor in inputs}
    named = _object(
        {tensor.name: schema for tensor, schema in values.items() if not tensor.optional},
        {tensor.name: schema for tensor, schema in values.items() if tensor.optional},
    )
    rows = [named]
    columns: Schema = _object({t.name: _values(t, (None, *t.shape), service.settings.max_instances) for t in inputs})
    if len(inputs) == 1:
        rows.append(values[inputs[0]])
        bare = _values(inputs[0], (None, *inputs[0].shape), service.settings.max_instances)
        columns = {"anyOf": [columns, bare]}
    name = {"signature_name": {"enum": [SIGNATURE_NAME, "", None]}, "parameters": {"type": ["object", "null"]}}
    most = service.settings.max_instances
    # All named or all bare.
    instances = {"anyOf": [{"type": "array", "items": row, "minItems": 1, "maxItems": most} for row in rows]}
    request = {"oneOf": [_object({"instances": instances}, name), _object({"inputs": columns}, name)]}
    row = {"type": "object"} if len(outputs) > 1 else _values(outputs[0], outputs[0].shape)
    labels = {"labels": _list_of(dict(model.target.label_schema if model.target else {}))}
    answer = {
        "oneOf": [
            _object({"predictions": {"type": "array", "items": row}}, labels),
            _object({"outputs": {"type": ["object", "array"]}}, labels),
        ]
    }
    operation = _operation("Predict, by rows (instances) or columns (inputs)", answer, *_PREDICTION_ERRORS)
    return operation | _body(request, _example(service, model))


def _infer(service: Service, model: ServedModel) -> Schema:
    tensors = model.signature.inputs
    entries = [
        _object(
            {
                "name": {"const": tensor.name},
                "datatype": {"const": DATATYPES[tensor.dtype]},
                "shape": _shape(tensor, service),
                "data": {
                    "type": "array",
                    "items": {"anyOf": [*_in_v2(tensor), {"type": "array"}]},
                    "description": "flat, row-major, or nested; as many values as the shape says",
                },
            },
            _parameters(binary_data_size={"type": ["integer", "null"], "minimum": 0}),
        )
        for tensor in tensors
    ]
    as_bytes = _parameters(binary_data=_FLAG)
    outputs = _list_of(_object({"name": {"enum": [t.name for t in model.signature.outputs]}}, as_bytes))
    request = _object(
        {"inputs": {"type": "array", "items": {"anyOf": entries}, "minItems": len(tensors), "maxItems": len(tensors)}},
        {"id": {"type": ["string", "null"]}, "outputs": {"anyOf": [outputs, {"type": "null"}]}}
        | _parameters(binary_data_output=_FLAG, labels=_FLAG),
    )
    answer = _with("model_name", "model_version", "outputs")
    summary = "Infer; raw values may follow the JSON, see the binary tensor extension"
    return _operation(summary, answer, *_PREDICTION_ERRORS, also="application/octet-stream") | _body(
        request, _infer_example(model)
    )


_PREDICTION_ERRORS = (400, 408, 413, 415, 422, 503, 504)
_OPENMETRICS = openmetrics.CONTENT_TYPE.partition(";")[0]
_BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_FLAG = {"type": ["boolean", "null"]}
_REASONS = {
    400: "Something in the request is wrong; the error names its place",
    404: "No such version or label",
    408: "The request took too long to arrive",
    413: "The body is too large",
    415: "Not JSON, or an unknown compression",
    422: "The model's answer is not finite",
    501: "Feedback is not kept here",
    503: "Not ready, or overloaded: Retry-After says when to come back",
    504: "The deadline has passed",
}


def _operation(summary: str, schema: Schema, *errors: int, also: str = "", media: str = "application/json") -> Schema:
    content: Schema = {media: {"schema": schema}}
    if also:
        content[also] = {"schema": {}}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    failures = {str(code): {"description": _REASONS[code], "content": error} for code in errors}
    if 503 in errors and summary.endswith("ness"):
        failures["503"]["content"] = {"application/json": {"schema": _with("error")}}
    return {"summary": summary, "responses": {"200": {"description": "OK", "content": content}} | failures}


def _naming(operation: Schema, named: str, model: ServedModel | None) -> Schema:
    """The operation on a path that names a version or a label."""
    known = LABELS if named == "label" else (model.manifest.id,) if model else ()
    parameter = {"name": named, "in": "path", "required": True, "schema": {"enum": list(known)}}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    missing = {"404": {"description": _REASONS[404], "content": error}}
    parameters = [parameter, *operation.get("parameters", [])]
    return operation | {"parameters": parameters, "responses": operation["responses"] | missing}


def _with_labels(operation: Schema) -> Schema:
    described = "adds the label of each row, or its tags, to the answer"
    flag = {"name": "labels", "in": "query", "schema": {"enum": ["false", "true"]}, "description": described}
    return operation | {"parameters": [flag]}


def _body(schema: Schema, example: object) -> Schema:
    media: Schema = {"schema": schema}
    if example is not None:
        media["example"] = example
    return {"requestBody": {"required": True, "content": {"application/json": media}}}


def _example(service: Service, model: ServedModel) -> object:
    samples = model.manifest.properties.get("samples") or []
    return {"instances": [samples[0]["instance"]]} if samples else None


def _infer_example(model: ServedModel) -> object:
    samples = model.manifest.properties.get("samples") or []
    if not samples:
        return None
    values = {tensor: [samples[0]["instance"][tensor.name]] for tensor in model.signature.inputs}
    inputs = [
        {"name": tensor.name, "datatype": DATATYPES[tensor.dtype], "shape": list(np.shape(value)), "data": value}
        for tensor, value in values.items()
    ]
    return {"inputs": inputs}


def _object(required: Mapping[str, Any], optional: Mapping[str, Any] | None = None) -> Schema:
    properties = {**required, **(optional or {})}
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _parameters(**parameters: Schema) -> Schema:
    return {"parameters": {"type": ["object", "null"], "properties": parameters, "additionalProperties": False}}


def _with(*names: str) -> Schema:
    """An object with at least these properties."""
    return {"type": "object", "required": list(names)}


def _list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _shape(tensor: Tensor, service: Service) -> Schema:
    rows = {"type": "integer", "minimum": 1, "maximum": service.settings.max_instances}
    any_length: Schema = {"type": "integer", "minimum": 0}
    if tensor.length:
        any_length |= {"minimum": tensor.length.least, "maximum": tensor.length.most}
    sizes = [any_length if size is None else {"const": size} for size in tensor.shape]
    count = 1 + len(sizes)
    return {"type": "array", "prefixItems": [rows, *sizes], "minItems": count, "maxItems": count}


def _values(tensor: Tensor, shape: Sequence[int | None], most: int | None = None) -> Schema:
    """Nested arrays of a shape (None: any length), or null in place of a row or of what is in it, if that may be.

    most: the longest that the first dimension may be, of at least 1: that of rows.
    """
    if not shape:
        return _scalar_or_null(tensor)
    may_be_null = tensor.may_be_null and most is None and None not in shape
    array: Schema = {
        "type": ["array", "null"] if may_be_null else "array",
        "items": _values(tensor, shape[1:]),
    }
    if shape[0] is not None:
        array |= {"minItems": shape[0], "maxItems": shape[0]}
    elif most is not None:
        array |= {"minItems": 1, "maxItems": most}
    elif tensor.length:
        array |= {"minItems": tensor.length.least, "maxItems": tensor.length.most}
    return array


def _in_v2(tensor: Tensor) -> list[Schema]:
    """What a value in the data of a tensor may be: bytes are text in base64 there."""
    scalar = _scalar(tensor)
    null: list[Schema] = [] if tensor.missing is None else [{"type": "null"}]
    return [scalar["properties"]["b64"], scalar] if tensor.media_type else [scalar, *null]


def _scalar_or_null(tensor: Tensor) -> Schema:
    scalar = _scalar(tensor)
    if tensor.missing is None:
        return scalar
    null = {"type": "null", "description": f"missing; stands for {json.dumps(tensor.missing)}"}
    return {"anyOf": [scalar, null]}


def _scalar(tensor: Tensor) -> Schema:
    dtype = tensor.numpy_dtype
    if tensor.dtype == "string":
        base64 = {"type": "string", "pattern": _BASE64, "contentEncoding": "base64"}
        if tensor.media_type:
            return _object({"b64": base64 | {"contentMediaType": tensor.media_type}})
        return {"anyOf": [{"type": "string"}, _object({"b64": base64})]}
    if dtype.kind == "b":
        return {"type": "boolean"}
    if dtype.kind == "f":
        largest = np.finfo(dtype)
        # What rounds to the largest value is still taken: half a step above it. np.spacing overflows there.
        half_step = float(largest.eps) / 2 * 2.0 ** (int(largest.maxexp) - 1)
        edge = float(np.nextafter(float(largest.max) + half_step, 0))
        if tensor.nullable:
            return {"type": ["number", "null"], "minimum": -edge, "maximum": edge, "description": "null: missing"}
        return {"type": "number", "minimum": -edge, "maximum": edge}
    limits = np.iinfo(dtype)
    return {"type": "integer", "minimum": limits.min, "maximum": limits.max}
