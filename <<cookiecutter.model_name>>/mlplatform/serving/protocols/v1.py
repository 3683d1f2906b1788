"""The V1 protocol of TensorFlow Serving and KServe: JSON rows (`instances`) or JSON columns (`inputs`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from mlplatform.serving.errors import bad_request
from mlplatform.serving.http.request_body import parse_json
from mlplatform.serving.model.signature import Array, Signature, Tensor
from mlplatform.serving.protocols.tensors import (
    Path,
    count_strings,
    not_finite,
    only_numbers,
    show,
    string_values,
    to_array,
)

SIGNATURE_NAME = "serving_default"
# The last one is KServe's, and no model here takes any.
_FIELDS = ("instances", "inputs", "signature_name", "parameters")


@dataclass(frozen=True)
class Request:
    """Arrays in the order of the signature's inputs, each (rows, ...); by_row: asked as `instances`."""

    arrays: tuple[Array, ...]
    rows: int
    by_row: bool


def decode(body: bytes, signature: Signature, max_instances: int) -> Request:
    """Parse a predict request. Raises RequestError (400) naming the first fault."""
    content = parse_json(body)
    if not isinstance(content, dict):
        raise bad_request(f'the body is {show(content)}; expected an object such as {{"instances": [...]}}')
    if len(content) > 1 or "instances" not in content:
        _check_fields(content)
    if "instances" in content:
        return _from_rows(content, body, signature, max_instances)
    return _from_columns(content, body, signature, max_instances)


def encode(
    outputs: Sequence[Array], signature: Signature, by_row: bool, labels: Sequence[str | list[str]] | None = None
) -> bytes:
    """The answer as JSON. labels: of the rows, if they were asked for.

    Raises RequestError (422) if an output holds NaN or Infinity.
    """
    tensors = signature.outputs
    key = "predictions" if by_row else "outputs"
    if len(tensors) == 1:
        values = _values(outputs[0], tensors[0])
    elif by_row:
        columns = [_values(array, tensor) for array, tensor in zip(outputs, tensors, strict=True)]
        names = [tensor.name for tensor in tensors]
        values = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    else:
        values = {tensor.name: _values(array, tensor) for array, tensor in zip(outputs, tensors, strict=True)}
    answer = {key: values} if labels is None else {key: values, "labels": labels}
    body = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    # orjson writes null for NaN and Infinity; looking for it costs less than isfinite().
    if b"null" in body and any(tensor.dtype != "string" for tensor in tensors):
        _refuse_null(orjson.loads(body)[key], key)
    return body


def _check_fields(content: dict[str, Any]) -> None:
    """Raises RequestError (400) for an unknown field, a wrong one beside the rows, no rows, or rows twice."""
    unknown = [field for field in content if field not in _FIELDS]
    if unknown:
        raise bad_request(f"unknown field {show(unknown[0])}; a request has: {', '.join(_FIELDS)}")
    if not isinstance(content.get("parameters"), dict | None):
        raise bad_request(f"parameters is {show(content['parameters'])}; expected an object")
    if content.get("signature_name") not in (SIGNATURE_NAME, "", None):
        raise bad_request(f"signature_name is {show(content['signature_name'])}; expected {SIGNATURE_NAME!r}")
    if "instances" in content and "inputs" in content:
        raise bad_request("the request has both instances and inputs; send one of them")
    if "instances" not in content and "inputs" not in content:
        raise bad_request('the request has neither instances nor inputs; expected {"instances": [...]}')


def _from_rows(content: dict[str, Any], body: bytes, signature: Signature, max_instances: int) -> Request:
    instances = content["instances"]
    if not isinstance(instances, list):
        raise bad_request(f"instances is {show(instances)}; expected a list")
    _check_count(len(instances), "instances", max_instances)
    tensors, top = signature.inputs, _strings_beside(content)
    if len(tensors) == 1 and not _is_named(instances[0], tensors[0]):
        array = to_array(instances, tensors[0], _indexed("instances"), only_numbers(body, keys=top))
        return Request((array,), len(instances), by_row=True)
    names = {tensor.name for tensor in tensors}
    needed = {tensor.name for tensor in tensors if not tensor.optional}
    for position, instance in enumerate(instances):
        if not isinstance(instance, dict):
            raise bad_request(f"instances[{position}] is {show(instance)}; expected an object with {_list(tensors)}")
        if instance.keys() != names and not needed <= instance.keys() <= names:
            _refuse_names(instance, tensors, f"instances[{position}]")
    trusted = only_numbers(body, keys=top + sum(map(len, instances)))
    arrays = tuple(
        to_array([instance.get(tensor.name) for instance in instances], tensor, _row_path(tensor.name), trusted)
        for tensor in tensors
    )
    return Request(arrays, len(instances), by_row=True)


def _from_columns(content: dict[str, Any], body: bytes, signature: Signature, max_instances: int) -> Request:
    inputs, tensors = content["inputs"], signature.inputs
    keys = _strings_beside(content) + (len(inputs) if isinstance(inputs, dict) else 0)
    if len(tensors) == 1 and not (isinstance(inputs, dict) and not _is_b64_object(inputs, tensors[0])):
        inputs = {tensors[0].name: inputs}
        where = {tensors[0].name: "inputs"}
    else:
        if not isinstance(inputs, dict):
            raise bad_request(f"inputs is {show(inputs)}; expected an object with {_list(tensors)}")
        if inputs.keys() != {tensor.name for tensor in tensors}:
            _refuse_names(inputs, tensors, "inputs")
        where = {tensor.name: f"inputs.{tensor.name}" for tensor in tensors}
    for tensor in tensors:
        column = inputs[tensor.name]
        if isinstance(column, list):
            _check_count(len(column), where[tensor.name], max_instances)
    trusted = only_numbers(body, keys)
    arrays = tuple(to_array(inputs[t.name], t, _indexed(where[t.name]), trusted) for t in tensors)
    counts = {len(array) for array in arrays}
    if len(counts) > 1:
        told = ", ".join(f"{where[t.name]} has {len(a)}" for t, a in zip(tensors, arrays, strict=True))
        raise bad_request(f"the inputs must have the same number of rows: {told}")
    return Request(arrays, counts.pop(), by_row=False)


def _strings_beside(content: dict[str, Any]) -> int:
    """Strings of a request but for those of its rows or columns, keys included."""
    return len(content) + ("signature_name" in content) + count_strings(content.get("parameters"))


def _check_count(count: int, what: str, most: int) -> None:
    if count == 0:
        raise bad_request(f"{what} is empty; expected at least one row")
    if count > most:
        raise bad_request(f"{what} has {count} rows; at most {most} in one request, so send several")


def _is_named(instance: object, tensor: Tensor) -> bool:
    return isinstance(instance, dict) and not _is_b64_object(instance, tensor)


def _is_b64_object(value: dict[str, Any], tensor: Tensor) -> bool:
    return tensor.dtype == "string" and value.keys() == {"b64"}


def _refuse_names(given: dict[str, Any], tensors: Sequence[Tensor], path: str) -> None:
    for tensor in tensors:
        if tensor.name not in given and (path == "inputs" or not tensor.optional):
            raise bad_request(f"{path}: input {tensor.name!r} ({tensor.describe()}) is missing")
    unknown = next(name for name in given if name not in {tensor.name for tensor in tensors})
    raise bad_request(f"{path}: unknown input {show(unknown)}; the model takes {_list(tensors)}")


def _list(tensors: Sequence[Tensor]) -> str:
    return ", ".join(f"{tensor.name} ({tensor.describe()})" for tensor in tensors)


def _indexed(prefix: str) -> Path:
    return lambda index: prefix + "".join(f"[{i}]" for i in index)


def _row_path(name: str) -> Path:
    """instances[3].image[2] for (3, 2)."""

    def path(index: tuple[int, ...]) -> str:
        if not index:
            return f"instances[].{name}"
        return f"instances[{index[0]}].{name}" + "".join(f"[{i}]" for i in index[1:])

    return path


def _values(array: Array, tensor: Tensor) -> Any:
    return string_values(array, tensor.name) if tensor.dtype == "string" else array


def _refuse_null(value: object, path: str) -> None:
    """Raise for the first null of an answer, if there is one."""
    if value is None:
        raise not_finite(path)
    if isinstance(value, list):
        for position, element in enumerate(value):
            _refuse_null(element, f"{path}[{position}]")
    elif isinstance(value, dict):
        for name, element in value.items():
            _refuse_null(element, f"{path}.{name}")
