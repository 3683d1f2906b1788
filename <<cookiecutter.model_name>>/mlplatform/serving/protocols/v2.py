"""The Open Inference Protocol V2, with the binary tensor extension: tensors by name, in JSON or as raw bytes.

A request's body is JSON, or JSON followed by the raw little-endian values of those inputs that say so by
`binary_data_size`; the header Inference-Header-Content-Length then tells where the JSON ends. An answer likewise.
"""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson

from mlplatform.serving.errors import bad_request
from mlplatform.serving.http.header_values import header_number, shorten
from mlplatform.serving.http.request_body import parse_json
from mlplatform.serving.model.signature import Array, Signature, Tensor
from mlplatform.serving.protocols.tensors import (
    Path,
    check_range,
    count_strings,
    not_finite,
    only_numbers,
    show,
    string_values,
    to_array,
)

HEADER = "Inference-Header-Content-Length"
DATATYPES = {
    f"{kind}{width}": f"{short}{width}"
    for kind, short in (("uint", "UINT"), ("int", "INT"), ("float", "FP"))
    for width in (8, 16, 32, 64)
} | {"bool": "BOOL", "string": "BYTES"}
# What computes a model, by the runtime that it was exported for: the specification's names.
PLATFORMS = {"tensorflow": "tensorflow_savedmodel", "onnx": "onnx_onnxv1"}
# The last two are not in the specification, and KServe's client sends them. The path is what counts.
_REQUEST_FIELDS = ("id", "parameters", "inputs", "outputs", "model_name", "model_version")
_INPUT_FIELDS = ("name", "shape", "datatype", "parameters", "data")
_OUTPUT_FIELDS = ("name", "parameters")
# By the fields of whose object they are parameters.
_PARAMETERS: Mapping[tuple[str, ...], Mapping[str, type]] = {
    _REQUEST_FIELDS: {"binary_data_output": bool, "labels": bool},
    _INPUT_FIELDS: {"binary_data_size": int},
    _OUTPUT_FIELDS: {"binary_data": bool},
}
_TYPES = {bool: "true or false", int: "a number of bytes"}


@dataclass(frozen=True)
class Request:
    """Arrays in the order of the signature's inputs.

    outputs: index into the signature, and whether as raw bytes. labels: whether those of the rows are asked for.
    """

    arrays: tuple[Array, ...]
    rows: int
    id: str | None
    outputs: tuple[tuple[int, bool], ...]
    labels: bool = False


def decode(body: bytes, json_length: str | None, signature: Signature, max_instances: int) -> Request:
    """Parse an infer request. json_length: value of the header HEADER. Raises RequestError (400)."""
    text, binary = _split(body, json_length)
    content = parse_json(text)
    _check_object(content, "the body", _REQUEST_FIELDS)
    named = _inputs_by_name(content, signature)
    sections = _Sections(binary)
    trusted = only_numbers(bytes(text), keys=count_strings(content, passed_over="data"))
    arrays = {
        name: _array(entry, place, tensor, sections, max_instances, trusted) for name, entry, place, tensor in named
    }
    sections.finish()
    ordered = tuple(arrays[tensor.name] for tensor in signature.inputs)
    counts = {len(array) for array in ordered}
    if len(counts) > 1:
        told = ", ".join(f"{t.name} has {len(a)}" for t, a in zip(signature.inputs, ordered, strict=True))
        raise bad_request(f"the inputs must have the same number of rows: {told}")
    labels = _parameters(content).get("labels") is True
    return Request(ordered, counts.pop(), _identifier(content), _outputs(content, signature), labels)


def encode(
    outputs: Sequence[Array],
    signature: Signature,
    request: Request,
    name: str,
    version: str,
    labels: Sequence[str | list[str]] | None = None,
) -> tuple[list[tuple[str, str]], bytes]:
    """Headers and body of the answer. labels: of the rows, if they were asked for.

    Raises RequestError (422) for NaN or Infinity in a JSON output.
    """
    entries: list[dict[str, Any]] = []
    sections: list[bytes] = []
    for position, raw in request.outputs:
        array, tensor = outputs[position], signature.outputs[position]
        entry: dict[str, Any] = {
            "name": tensor.name,
            "datatype": DATATYPES[tensor.dtype],
            "shape": list(array.shape),
        }
        if raw:
            section = _to_bytes(array, tensor)
            entry["parameters"] = {"binary_data_size": len(section)}
            sections.append(section)
        else:
            entry["data"] = _to_json(array, tensor)
        entries.append(entry)
    answer: dict[str, Any] = {"model_name": name, "model_version": version, "outputs": entries}
    if labels is not None:
        answer["parameters"] = {"labels": labels}
    if request.id is not None:
        answer["id"] = request.id
    text = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    if not sections:
        return [("Content-Type", "application/json")], text
    headers = [("Content-Type", "application/octet-stream"), (HEADER, str(len(text)))]
    return headers, b"".join([text, *sections])


def metadata(signature: Signature, name: str, version: str, labels: Sequence[str], exported_for: str) -> dict[str, Any]:
    """The model metadata answer: -1 is any size. labels: the model's, or none. exported_for: a runtime."""
    content = {
        "name": name,
        "versions": [version],
        "platform": PLATFORMS[exported_for],
        "inputs": [_describe(tensor) for tensor in signature.inputs],
        "outputs": [_describe(tensor) for tensor in signature.outputs],
    }
    return content | {"parameters": {"labels": list(labels)}} if labels else content


def _describe(tensor: Tensor) -> dict[str, Any]:
    shape = [-1, *(-1 if size is None else size for size in tensor.shape)]
    return {"name": tensor.name, "datatype": DATATYPES[tensor.dtype], "shape": shape}


class _Sections:
    """The raw bytes after the JSON, handed out in the order of the inputs."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._at = 0

    def take(self, size: int, place: str) -> memoryview:
        """The next bytes."""
        section = self._content[self._at : self._at + size]
        if len(section) != size:
            raise bad_request(f"{place}.parameters.binary_data_size is {size}, but only {len(section)} bytes are left")
        self._at += size
        return section

    def finish(self) -> None:
        """Nothing may be left over."""
        left = len(self._content) - self._at
        if left:
            raise bad_request(f"the body has {left} bytes that belong to no input")


def _split(body: bytes, json_length: str | None) -> tuple[memoryview, memoryview]:
    content = memoryview(body)
    if json_length is None:
        return content, content[len(content) :]
    length = header_number(json_length, len(content))
    if length is None:
        raise bad_request(f"{HEADER} is {shorten(json_length)!r}; expected at most the body's {len(content)} bytes")
    return content[:length], content[length:]


def _check_object(content: object, place: str, fields: tuple[str, ...]) -> None:
    if not isinstance(content, dict):
        raise bad_request(f"{place} is {show(content)}; expected an object with: {', '.join(fields)}")
    unknown = [field for field in content if field not in fields]
    if unknown:
        raise bad_request(f"{place}: unknown field {show(unknown[0])}; expected: {', '.join(fields)}")
    if not isinstance(_parameters(content), dict):
        raise bad_request(f"{place}: parameters is {show(content['parameters'])}; expected an object")
    # Passed over, a parameter that asks for another answer would get a wrong one.
    known = _PARAMETERS[fields]
    for name, value in _parameters(content).items():
        if name not in known:
            raise bad_request(f"{place}: unknown parameter {show(name)}; expected: {', '.join(known)}")
        if value is not None and type(value) is not known[name]:
            raise bad_request(f"{place}.parameters.{name} is {show(value)}; expected {_TYPES[known[name]]}")


def _parameters(content: Mapping[str, Any]) -> Any:
    """Parameters; null, as some clients write, is none."""
    parameters = content.get("parameters")
    return {} if parameters is None else parameters


def _inputs_by_name(
    content: Mapping[str, Any], signature: Signature
) -> list[tuple[str, Mapping[str, Any], str, Tensor]]:
    """Name, entry, place and tensor of each input, in the order of the request."""
    inputs = content.get("inputs")
    if not isinstance(inputs, list):
        raise bad_request(f"inputs is {show(inputs)}; expected a list of tensors")
    wanted = {tensor.name: tensor for tensor in signature.inputs}
    named: dict[str, tuple[str, Mapping[str, Any], str, Tensor]] = {}
    for position, entry in enumerate(inputs):
        place = f"inputs[{position}]"
        _check_object(entry, place, _INPUT_FIELDS)
        name = entry.get("name")
        if not isinstance(name, str) or name not in wanted or name in named:
            expected = ", ".join(repr(n) for n in wanted if n not in named) or "no more inputs"
            raise bad_request(f"{place}.name is {show(name)}; expected {expected}")
        named[name] = (name, entry, place, wanted[name])
    missing = [tensor for name, tensor in wanted.items() if name not in named]
    if missing:
        raise bad_request(f"inputs: {missing[0].name!r} ({missing[0].describe()}) is missing")
    return list(named.values())


def _array(
    entry: Mapping[str, Any], place: str, tensor: Tensor, sections: _Sections, max_instances: int, trusted: bool
) -> Array:
    shape = _shape(entry, place, tensor, max_instances)
    datatype = entry.get("datatype")
    if datatype != DATATYPES[tensor.dtype]:
        raise bad_request(f"{place}.datatype is {show(datatype)}; expected {DATATYPES[tensor.dtype]!r}")
    size = _parameters(entry).get("binary_data_size")
    if size is None:
        if "data" not in entry:
            raise bad_request(f"{place} has neither data nor parameters.binary_data_size")
        return _at_least_an_item(_from_json(entry["data"], shape, tensor, f"{place}.data", trusted), tensor)
    if "data" in entry:
        raise bad_request(f"{place} has both data and parameters.binary_data_size; send one of them")
    if type(size) is not int or size < 0:
        raise bad_request(f"{place}.parameters.binary_data_size is {show(size)}; expected a number of bytes")
    return _at_least_an_item(_from_bytes(sections.take(size, place), shape, tensor, place), tensor)


def _at_least_an_item(array: Array, tensor: Tensor) -> Array:
    """Rows of lists without items as a model takes them: filled up to one."""
    return tensor.length.joined([array]) if tensor.length and not array.shape[1] else array


def _shape(entry: Mapping[str, Any], place: str, tensor: Tensor, max_instances: int) -> tuple[int, ...]:
    shape = entry.get("shape")
    expected = [-1, *(-1 if size is None else size for size in tensor.shape)]
    fits = (
        isinstance(shape, list)
        and len(shape) == len(expected)
        and all(type(size) is int and size >= 0 for size in shape)
        and all(want in (-1, size) for size, want in zip(shape, expected, strict=True))
    )
    if not fits or not isinstance(shape, list):
        raise bad_request(f"{place}.shape is {show(shape)}; expected {expected} (-1: any)")
    if not 1 <= shape[0] <= max_instances:
        raise bad_request(f"{place}.shape is {show(shape)}; expected 1 to {max_instances} rows")
    length = tensor.length
    if length and not length.least <= shape[1] <= length.most:
        raise bad_request(
            f"{place}.shape is {show(shape)}; expected {length.least} to {length.most} in its second place (a row is "
            f"{tensor.describe()})"
        )
    return tuple(shape)


def _from_json(data: object, shape: tuple[int, ...], tensor: Tensor, place: str, trusted: bool) -> Array:
    """Flat or nested data, row-major."""
    if not isinstance(data, list):
        raise bad_request(f"{place} is {show(data)}; expected a list")
    nested = len(shape) > 1 and any(isinstance(element, list) for element in data)
    layout = replace(tensor, shape=shape[1:] if nested else ())
    array = to_array(_as_b64(data) if tensor.media_type else data, layout, _indexed(place), trusted)
    count = math.prod(shape)
    if array.size != count or len(array) != (shape[0] if nested else count):
        raise bad_request(f"{place} has {array.size} values; shape {list(shape)} has {count}")
    return array.reshape(shape)


def _as_b64(data: object) -> object:
    """Bytes are in base64, as text, for JSON has no other way; as objects of V1 they work, too."""
    if isinstance(data, list):
        return [_as_b64(item) for item in data]
    return {"b64": data} if isinstance(data, str) else data


def _from_bytes(section: memoryview, shape: tuple[int, ...], tensor: Tensor, place: str) -> Array:
    count = math.prod(shape)
    if tensor.dtype == "string":
        items = list(_byte_strings(section, place))
        if len(items) != count:
            raise bad_request(f"{place} has {len(items)} strings; shape {list(shape)} has {count}")
        strings = np.empty(count, dtype=object)
        strings[:] = items
        return strings.reshape(shape)
    wanted = tensor.numpy_dtype.newbyteorder("<")
    if len(section) != count * wanted.itemsize:
        raise bad_request(
            f"{place}.parameters.binary_data_size is {len(section)}; "
            f"shape {list(shape)} of {DATATYPES[tensor.dtype]} has {count * wanted.itemsize} bytes"
        )
    if tensor.dtype == "bool":
        return np.frombuffer(section, np.uint8).astype(bool).reshape(shape)
    array = np.frombuffer(section, wanted).reshape(shape)
    check_range(array, tensor, _indexed(f"{place}.data"))
    return array


def _byte_strings(section: memoryview, place: str) -> Iterator[bytes]:
    """Each with its length in front, 4 bytes little-endian."""
    at = 0
    while at < len(section):
        if at + 4 > len(section):
            raise bad_request(f"{place}: the last string's length is cut short")
        (length,) = struct.unpack_from("<I", section, at)
        at += 4
        if at + length > len(section):
            raise bad_request(f"{place}: a string of {length} bytes where {len(section) - at} are left")
        yield bytes(section[at : at + length])
        at += length


def _outputs(content: Mapping[str, Any], signature: Signature) -> tuple[tuple[int, bool], ...]:
    """Which outputs are asked for, and which of them as raw bytes."""
    by_default = _parameters(content).get("binary_data_output") is True
    asked = content.get("outputs")
    if asked is None or asked == []:
        return tuple((position, by_default) for position in range(len(signature.outputs)))
    if not isinstance(asked, list):
        raise bad_request(f"outputs is {show(asked)}; expected a list")
    names = [tensor.name for tensor in signature.outputs]
    chosen: dict[int, bool] = {}
    for position, entry in enumerate(asked):
        place = f"outputs[{position}]"
        _check_object(entry, place, _OUTPUT_FIELDS)
        name = entry.get("name")
        if name not in names or names.index(name) in chosen:
            left = ", ".join(repr(n) for i, n in enumerate(names) if i not in chosen) or "no more outputs"
            raise bad_request(f"{place}.name is {show(name)}; expected {left}")
        chosen[names.index(name)] = _parameters(entry).get("binary_data", by_default) is True
    return tuple(chosen.items())


def _identifier(content: Mapping[str, Any]) -> str | None:
    identifier = content.get("id")
    if identifier is not None and not isinstance(identifier, str):
        raise bad_request(f"id is {show(identifier)}; expected a string")
    return identifier


def _to_bytes(array: Array, tensor: Tensor) -> bytes:
    if tensor.dtype == "string":
        return b"".join(struct.pack("<I", len(item)) + item for item in array.reshape(-1))
    return array.astype(tensor.numpy_dtype.newbyteorder("<"), copy=False).tobytes()


def _to_json(array: Array, tensor: Tensor) -> Any:
    """Flat, row-major: what clients expect of a server."""
    flat = array.reshape(-1)
    if tensor.dtype == "string":
        return string_values(flat, tensor.name)
    if flat.dtype.kind == "f" and not np.isfinite(flat).all():
        raise not_finite(f"outputs.{tensor.name}")
    return flat


def _indexed(prefix: str) -> Path:
    return lambda index: prefix + "".join(f"[{i}]" for i in index)
