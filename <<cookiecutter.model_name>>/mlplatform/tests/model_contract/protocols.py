"""The samples of any model as requests of every protocol, and predictions from every kind of answer."""

import base64
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.lengths import Length
from mlplatform.tests.serving.running import NAME, Reply, Running

INFER = f"/v2/models/{NAME}/infer"
JSON_LENGTH = "Inference-Header-Content-Length"
# Of the Open Inference Protocol; BYTES is not among them, its values have a length of their own.
NUMPY_TYPES = {
    "BOOL": "?",
    **{f"UINT{8 * size}": f"<u{size}" for size in (1, 2, 4, 8)},
    **{f"INT{8 * size}": f"<i{size}" for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": f"<f{size}" for size in (2, 4, 8)},
}
# Output name -> what was predicted, an array with a row for each instance.
Predictions = Mapping[str, NDArray[Any]]


def columns(instances: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The values of each input, by its name."""
    return {name: [instance[name] for instance in instances] for name in instances[0]}


def v1_rows(server: Running, instances: Sequence[Mapping[str, Any]]) -> Predictions:
    """Ask with JSON rows."""
    reply = server.predict({"instances": instances})
    assert reply.status == 200, reply.body
    rows = reply.body["predictions"]
    if isinstance(rows[0], dict):
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return {_output_names(server)[0]: np.array(rows)}


def v1_columns(server: Running, instances: Sequence[Mapping[str, Any]]) -> Predictions:
    """Ask with JSON columns."""
    reply = server.predict({"inputs": columns(instances)})
    assert reply.status == 200, reply.body
    outputs = reply.body["outputs"]
    if isinstance(outputs, dict):
        return {name: np.array(values) for name, values in outputs.items()}
    return {_output_names(server)[0]: np.array(outputs)}


def v2_json(server: Running, instances: Sequence[Mapping[str, Any]]) -> Predictions:
    """Ask with the tensors of V2 as JSON."""
    reply = server.post(INFER, {"inputs": [{**head, "data": data} for head, data in _v2_inputs(server, instances)]})
    assert reply.status == 200, reply.body
    return {output["name"]: np.reshape(output["data"], output["shape"]) for output in reply.body["outputs"]}


def v2_binary(server: Running, instances: Sequence[Mapping[str, Any]]) -> Predictions:
    """Ask with the tensors of V2 as raw bytes, in both directions."""
    heads, sections = [], []
    for head, data in _v2_inputs(server, instances):
        sections.append(_raw(data, head["datatype"]))
        heads.append({**head, "parameters": {"binary_data_size": len(sections[-1])}})
    text = json.dumps({"inputs": heads, "parameters": {"binary_data_output": True}}).encode()
    reply = server.ask("POST", INFER, b"".join([text, *sections]), {JSON_LENGTH: str(len(text))})
    assert reply.status == 200, reply.body
    return _from_binary(reply)


def _v2_inputs(server: Running, instances: Sequence[Mapping[str, Any]]) -> list[tuple[dict[str, Any], list[Any]]]:
    """Name, datatype and shape of each input as V2 writes them, and its values one after the other."""
    inputs = []
    signature = {tensor["name"]: tensor for tensor in server.get("/").body["model"]["signature"]["inputs"]}
    for tensor in server.get(f"/v2/models/{NAME}").body["inputs"]:
        values = as_array([instance[tensor["name"]] for instance in instances], signature[tensor["name"]])
        head = {"name": tensor["name"], "datatype": tensor["datatype"], "shape": list(values.shape)}
        inputs.append((head, values))
    return [(head, values.reshape(-1).tolist()) for head, values in inputs]


def as_array(values: Sequence[Any], tensor: Mapping[str, Any]) -> NDArray[Any]:
    """An input of several rows as one array: lists of several lengths are filled up as the model's signature says."""
    length = Length.of_json(tensor.get("length"))
    return length.joined([np.array(value)[np.newaxis] for value in values]) if length else np.array(values)


def _raw(values: Any, datatype: str) -> bytes:
    if datatype == "BYTES":
        texts = [as_bytes(value) for value in values]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return np.array(values, NUMPY_TYPES[datatype]).tobytes()


def as_bytes(value: Any) -> bytes:
    """What a value of a BYTES input stands for: text, or base64."""
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else str(value).encode()


def _from_binary(reply: Reply) -> Predictions:
    length = int(reply.headers[JSON_LENGTH])
    rest = reply.body[length:]
    predictions = {}
    for output in json.loads(reply.body[:length])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        section, rest = rest[:size], rest[size:]
        if output["datatype"] != "BYTES":
            predictions[output["name"]] = np.frombuffer(section, NUMPY_TYPES[output["datatype"]]).reshape(
                output["shape"]
            )
    assert rest == b""
    return predictions


def _output_names(server: Running) -> list[str]:
    return [tensor["name"] for tensor in server.get(f"/v2/models/{NAME}").body["outputs"]]
