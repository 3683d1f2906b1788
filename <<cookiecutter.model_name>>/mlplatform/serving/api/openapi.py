"""The OpenAPI 3.1 document of what is served: written from the model's own signature, so that it says what is true."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlplatform.contract.events import LONGEST_ID
from mlplatform.serving.model.service import LABELS, ServedModel, Service
from mlplatform.serving.model.signature import Tensor
from mlplatform.serving.protocols.v1 import SIGNATURE_NAME
from mlplatform.serving.protocols.v2 import DATATYPES

Schema = dict[str, Any]


def document(service: Service) -> Schema:
    """The document, as JSON values. While there is no model it describes health alone."""
    model = service.model
    paths = _general_paths()
    if service.settings.events:
        paths["/v1/feedback"] = {"post": _feedback()}
    if model is not None:
        paths |= _model_paths(service, model)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": service.name,
            "version": model.manifest.id if model else "none",
            "description": "Predictions over TensorFlow Serving's and KServe's V1 protocol, and Open Inference V2.",
        },
        "paths": paths,
        "components": {"schemas": {"Error": _object({"error": {"type": "string"}})}},
    }


def _general_paths() -> Schema:
    health = _with("live")
    return {
        "/": {"get": _operation("What is served", {"type": "object"}, also="text/html")},
        "/v1/models": {"get": _operation("The models", _object({"models": _list_of({"type": "string"})}))},
        "/v2": {
            "get": _operation("Server metadata", {"type": "object", "required": ["name", "version", "extensions"]})
        },
        "/v2/health/live": {"get": _operation("Liveness", health, 503)},
        "/v2/health/ready": {"get": _operation("Readiness", health, 503)},
    }


def _feedback() -> Schema:
    label = {"type": ["string", "integer", "null"]}
    request_id = {"request_id": {"type": "string", "minLength": 1, "maxLength": LONGEST_ID, "pattern": "^[ -~]+$"}}
    given = {"label": label, "labels": {"type": "array", "items": label, "minItems": 1}}
    request = {"oneOf": [_object({**request_id, name: schema}) for name, schema in given.items()]}
    answer = _object({**request_id, "labels": {"type": "array"}})
    operation = _operation("Tell what a request really was", answer, 400, 408, 413, 415, 501, 503)
    operation["responses"]["202"] = operation["responses"].pop("200")
    return operation | _body(request, {"request_id": "X-Request-ID of the answer", "label": "what it was"})


def _model_paths(service: Service, model: ServedModel) -> Schema:
    version = model.manifest.id
    v1, v2 = f"/v1/models/{service.name}", f"/v2/models/{service.name}"
    predict, infer = _predict(service, model), _infer(service, model)
    status = _operation("Model status", _with("name", "ready", "model_version_status"))
    metadata = _operation("Model metadata", _with("name", "versions", "inputs", "outputs"), 503)
    v1_metadata = _operation("Model metadata", _with("model_spec"), 503)
    ready = _operation("Model readiness", _with("name", "ready"), 503)
    plain = {
        v1: {"get": status},
        f"{v1}/metadata": {"get": v1_metadata},
        f"{v1}:predict": {"post": predict},
        v2: {"get": metadata},
        f"{v2}/ready": {"get": ready},
        f"{v2}/infer": {"post": infer},
    }
    versioned = {
        f"{v1}/versions/{{version}}": {"get": status},
        f"{v1}/versions/{{version}}/metadata": {"get": v1_metadata},
        f"{v1}/versions/{{version}}:predict": {"post": predict},
        f"{v2}/versions/{{version}}": {"get": metadata},
        f"{v2}/versions/{{version}}/ready": {"get": ready},
        f"{v2}/versions/{{version}}/infer": {"post": infer},
    }
    labelled = {
        f"{v1}/labels/{{label}}": {"get": status},
        f"{v1}/labels/{{label}}/metadata": {"get": v1_metadata},
        f"{v1}/labels/{{label}}:predict": {"post": predict},
    }
    return (
        plain
        | {path: _with_parameter(methods, "version", (version,)) for path, methods in versioned.items()}
        | {path: _with_parameter(methods, "label", LABELS) for path, methods in labelled.items()}
    )


def _predict(service: Service, model: ServedModel) -> Schema:
    inputs, outputs = model.signature.inputs, model.signature.outputs
    named = _object({tensor.name: _values(tensor, tensor.shape) for tensor in inputs})
    rows = [named]
    columns: Schema = _object({t.name: _values(t, (None, *t.shape), service.settings.max_instances) for t in inputs})
    if len(inputs) == 1:
        rows.append(_values(inputs[0], inputs[0].shape))
        bare = _values(inputs[0], (None, *inputs[0].shape), service.settings.max_instances)
        columns = {"anyOf": [columns, bare]}
    name = {"signature_name": {"enum": [SIGNATURE_NAME, ""]}}
    most = service.settings.max_instances
    # All named or all bare.
    instances = {"anyOf": [{"type": "array", "items": row, "minItems": 1, "maxItems": most} for row in rows]}
    request = {"oneOf": [_object({"instances": instances}, name), _object({"inputs": columns}, name)]}
    row = {"type": "object"} if len(outputs) > 1 else _values(outputs[0], outputs[0].shape)
    answer = {
        "oneOf": [
            _object({"predictions": {"type": "array", "items": row}}),
            _object({"outputs": {"type": ["object", "array"]}}),
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
                    "items": {"anyOf": [_scalar(tensor), {"type": "array"}]},
                    "description": "flat, row-major, or nested; as many values as the shape says",
                },
            },
            _PARAMETERS,
        )
        for tensor in tensors
    ]
    outputs = _list_of(_object({"name": {"enum": [t.name for t in model.signature.outputs]}}, _PARAMETERS))
    request = _object(
        {"inputs": {"type": "array", "items": {"anyOf": entries}, "minItems": len(tensors), "maxItems": len(tensors)}},
        {"id": {"type": ["string", "null"]}, "outputs": {"anyOf": [outputs, {"type": "null"}]}} | _PARAMETERS,
    )
    answer = _with("model_name", "model_version", "outputs")
    summary = "Infer; raw values may follow the JSON, see the binary tensor extension"
    return _operation(summary, answer, *_PREDICTION_ERRORS, also="application/octet-stream") | _body(
        request, _infer_example(model)
    )


_PREDICTION_ERRORS = (400, 408, 413, 415, 422, 503, 504)
_PARAMETERS = {"parameters": {"type": ["object", "null"]}}
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


def _operation(summary: str, schema: Schema, *errors: int, also: str = "") -> Schema:
    content: Schema = {"application/json": {"schema": schema}}
    if also:
        content[also] = {"schema": {}}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    failures = {str(code): {"description": _REASONS[code], "content": error} for code in errors}
    if 503 in errors and summary.endswith("ness"):
        failures["503"]["content"] = {"application/json": {"schema": _with("error")}}
    return {"summary": summary, "responses": {"200": {"description": "OK", "content": content}} | failures}


def _with_parameter(methods: Mapping[str, Schema], name: str, values: Sequence[str]) -> Schema:
    parameter = {"name": name, "in": "path", "required": True, "schema": {"enum": list(values)}}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    missing = {"404": {"description": _REASONS[404], "content": error}}
    return {
        method: operation | {"parameters": [parameter], "responses": operation["responses"] | missing}
        for method, operation in methods.items()
    }


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


def _with(*names: str) -> Schema:
    """An object with at least these properties."""
    return {"type": "object", "required": list(names)}


def _list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _shape(tensor: Tensor, service: Service) -> Schema:
    rows = {"type": "integer", "minimum": 1, "maximum": service.settings.max_instances}
    sizes = [{"type": "integer", "minimum": 0} if size is None else {"const": size} for size in tensor.shape]
    count = 1 + len(sizes)
    return {"type": "array", "prefixItems": [rows, *sizes], "minItems": count, "maxItems": count}


def _values(tensor: Tensor, shape: Sequence[int | None], most: int | None = None) -> Schema:
    """Nested arrays of a shape (None: any length). most: the longest that the first dimension may be, of at least 1."""
    if not shape:
        return _scalar(tensor)
    array: Schema = {"type": "array", "items": _values(tensor, shape[1:])}
    if shape[0] is not None:
        array |= {"minItems": shape[0], "maxItems": shape[0]}
    elif most is not None:
        array |= {"minItems": 1, "maxItems": most}
    return array


def _scalar(tensor: Tensor) -> Schema:
    dtype = tensor.numpy_dtype
    if tensor.dtype == "string":
        base64 = {"type": "string", "pattern": "^([A-Za-z0-9+/]{4})*$", "contentEncoding": "base64"}
        return {"anyOf": [{"type": "string"}, _object({"b64": base64})]}
    if dtype.kind == "b":
        return {"type": "boolean"}
    if dtype.kind == "f":
        largest = np.finfo(dtype).max
        # What rounds to the largest value is still taken.
        edge = float(np.nextafter(float(largest) + float(np.spacing(largest)) / 2, 0))
        return {"type": "number", "minimum": -edge, "maximum": edge}
    limits = np.iinfo(dtype)
    return {"type": "integer", "minimum": limits.min, "maximum": limits.max}
