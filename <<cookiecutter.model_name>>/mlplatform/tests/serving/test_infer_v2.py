"""POST /v2/models/<name>/infer and what belongs to it, against running servers."""

import gzip
import json
import struct
from typing import Any

import numpy as np
import pytest

from mlplatform.tests.serving.running import NAME, Reply, Running

FIELDS = "name, shape, datatype, parameters, data"
INFER = f"/v2/models/{NAME}/infer"
IMAGES = np.arange(128, dtype=np.float32).reshape(2, 8, 8)
IMAGE = {"name": "image", "shape": [2, 8, 8], "datatype": "FP32"}
FLAT = IMAGES.reshape(-1).tolist()


def binary(content: object, *sections: bytes, **headers: str) -> dict[str, Any]:
    """Body and headers of a request with the binary extension."""
    text = json.dumps(content).encode()
    return {
        "body": b"".join([text, *sections]),
        "headers": {"Inference-Header-Content-Length": str(len(text))} | headers,
    }


def infer(server: Running, content: object, *sections: bytes, **headers: str) -> Reply:
    if not sections:
        return server.post(INFER, content)
    return server.ask("POST", INFER, **binary(content, *sections, **headers))


def raw(size: int) -> dict[str, object]:
    return {"parameters": {"binary_data_size": size}}


@pytest.mark.parametrize("data", [FLAT, IMAGES.tolist()], ids=["flat", "nested"])
def test_json_in_and_out(server: Running, reference: Any, data: object) -> None:
    reply = infer(server, {"id": "42", "inputs": [IMAGE | {"data": data}]})
    assert reply.status == 200
    (output,) = reply.body.pop("outputs")
    assert reply.body == {"model_name": NAME, "model_version": "aaaaaaaaaaaa", "id": "42"}
    np.testing.assert_allclose(np.reshape(output.pop("data"), (2, 10)), reference({"image": IMAGES}), atol=1e-5)
    assert output == {"name": "probabilities", "datatype": "FP32", "shape": [2, 10]}


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_binary_in_and_out(server: Running, reference: Any, compress: bool) -> None:
    content = {
        "inputs": [IMAGE | raw(IMAGES.nbytes)],
        "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}],
    }
    request = binary(content, IMAGES.tobytes())
    if compress:
        request["body"] = gzip.compress(request["body"])
        request["headers"]["Content-Encoding"] = "gzip"
    reply = server.ask("POST", INFER, **request)
    assert reply.status == 200
    length = int(reply.headers["Inference-Header-Content-Length"])
    (output,) = json.loads(reply.body[:length])["outputs"]
    assert output["parameters"] == {"binary_data_size": 80}
    predictions = np.frombuffer(reply.body[length:], np.float32).reshape(output["shape"])
    np.testing.assert_allclose(predictions, reference({"image": IMAGES}), atol=1e-5)


def test_all_outputs_as_binary_by_one_parameter(server: Running) -> None:
    content = {"inputs": [IMAGE | {"data": FLAT}], "parameters": {"binary_data_output": True}}
    assert infer(server, content).headers["Content-Type"] == "application/octet-stream"


def test_the_version_may_be_named(server: Running) -> None:
    path = f"/v2/models/{NAME}/versions/{{}}/infer"
    content = {"inputs": [IMAGE | {"data": FLAT}]}
    assert server.post(path.format("aaaaaaaaaaaa"), content).status == 200
    assert server.post(path.format("1"), content).status == 404


def test_what_is_served(server: Running) -> None:
    assert server.get("/v2").body["extensions"] == ["binary_tensor_data"]
    assert server.get(f"/v2/models/{NAME}").body == {
        "name": NAME,
        "versions": ["aaaaaaaaaaaa"],
        "platform": "tensorflow_savedmodel",
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 8, 8]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}],
        "parameters": {"labels": [str(digit) for digit in range(10)]},
    }
    assert server.get(f"/v2/models/{NAME}/ready").body == {"name": NAME, "ready": True}
    assert server.get(f"/v2/models/{NAME}/versions/1/ready").status == 404


def _everything(**changed: dict[str, Any]) -> list[dict[str, Any]]:
    inputs: dict[str, dict[str, Any]] = {
        "colour": {"shape": [1], "datatype": "BYTES", "data": ["red"]},
        "index": {"shape": [1], "datatype": "UINT8", "data": [1]},
        "flag": {"shape": [1], "datatype": "BOOL", "data": [True]},
        "series": {"shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]},
    }
    return [{"name": name} | changed.get(name, content) for name, content in inputs.items()]


def test_inputs_of_every_kind(server_of_everything: Running) -> None:
    reply = infer(server_of_everything, {"inputs": _everything()})
    assert {output["name"]: output["data"] for output in reply.body["outputs"]} == {
        "total": [1016.0],
        "colour_id": [1],
        "name": ["red!"],
    }


def test_inputs_of_every_kind_as_binary(server_of_everything: Running) -> None:
    colour = struct.pack("<I", 5) + b"green"
    inputs = _everything(
        colour={"shape": [1], "datatype": "BYTES"} | raw(len(colour)),
        index={"shape": [1], "datatype": "UINT8"} | raw(1),
        flag={"shape": [1], "datatype": "BOOL"} | raw(1),
        series={"shape": [1, 2], "datatype": "FP32"} | raw(8),
    )
    outputs = [{"name": "name", "parameters": {"binary_data": True}}, {"name": "total"}]
    sections = (colour, b"\x02", b"\x00", np.array([1, 2], "<f4").tobytes())
    reply = infer(server_of_everything, {"inputs": inputs, "outputs": outputs}, *sections)
    length = int(reply.headers["Inference-Header-Content-Length"])
    assert reply.body[length:] == struct.pack("<I", 6) + b"green!"
    assert [(output["name"], output.get("data")) for output in json.loads(reply.body[:length])["outputs"]] == [
        ("name", None),
        ("total", [23.0]),
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([], "the body is []; expected an object with: id, parameters, inputs, outputs, model_name, model_version"),
        ({}, "inputs is null; expected a list of tensors"),
        ({"inputs": []}, "inputs: 'image' (float32 of shape [8, 8]) is missing"),
        ({"inputs": [3]}, "inputs[0] is 3; expected an object with: " + FIELDS),
        (
            {"inputs": [IMAGE | {"x": 1}]},
            'inputs[0]: unknown field "x"; expected: name, shape, datatype, parameters, data',
        ),
        ({"inputs": [IMAGE | {"name": "x"}]}, "inputs[0].name is \"x\"; expected 'image'"),
        ({"inputs": [IMAGE | {"shape": [2, 8]}]}, "inputs[0].shape is [2,8]; expected [-1, 8, 8] (-1: any)"),
        ({"inputs": [IMAGE | {"shape": [2, 8, True]}]}, "inputs[0].shape is [2,8,true]; expected [-1, 8, 8] (-1: any)"),
        ({"inputs": [IMAGE | {"shape": [0, 8, 8]}]}, "inputs[0].shape is [0,8,8]; expected 1 to 1024 rows"),
        ({"inputs": [IMAGE | {"datatype": "FP64"}]}, "inputs[0].datatype is \"FP64\"; expected 'FP32'"),
        ({"inputs": [IMAGE]}, "inputs[0] has neither data nor parameters.binary_data_size"),
        ({"inputs": [IMAGE | {"parameters": 3}]}, "inputs[0]: parameters is 3; expected an object"),
        ({"inputs": [IMAGE | {"data": FLAT[1:]}]}, "inputs[0].data has 127 values; shape [2, 8, 8] has 128"),
        ({"inputs": [IMAGE | {"data": IMAGES[:1].tolist()}]}, "inputs[0].data has 64 values; shape [2, 8, 8] has 128"),
        ({"inputs": [IMAGE | {"data": [*FLAT[1:], "1"]}]}, 'inputs[0].data[127] is "1"; expected a number (float32)'),
        ({"inputs": [IMAGE | {"data": FLAT}], "id": 3}, "id is 3; expected a string"),
        (
            {"inputs": [IMAGE | {"data": FLAT, "parameters": {"content_type": "np"}}]},
            'inputs[0]: unknown parameter "content_type"; expected: binary_data_size',
        ),
        (
            {"inputs": [IMAGE | {"data": FLAT}], "outputs": [{"name": "x", "parameters": {"classification": 3}}]},
            'outputs[0]: unknown parameter "classification"; expected: binary_data',
        ),
        (
            {"inputs": [IMAGE | {"data": FLAT}], "parameters": {"timeout": 3}},
            'the body: unknown parameter "timeout"; expected: binary_data_output, labels',
        ),
        (
            {"inputs": [IMAGE | {"data": FLAT}], "parameters": {"labels": "yes"}},
            'the body.parameters.labels is "yes"; expected true or false',
        ),
        ({"inputs": [IMAGE | {"data": FLAT}], "outputs": 3}, "outputs is 3; expected a list"),
        (
            {"inputs": [IMAGE | {"data": FLAT}], "outputs": [{"name": "x"}]},
            "outputs[0].name is \"x\"; expected 'probabilities'",
        ),
    ],
)
def test_says_what_is_wrong_and_where(server: Running, content: object, reason: str) -> None:
    reply = infer(server, content)
    assert (reply.status, reply.error) == (400, reason)


@pytest.mark.parametrize(
    ("image", "section", "reason"),
    [
        (raw(512), b"\0" * 500, "inputs[0].parameters.binary_data_size is 512, but only 500 bytes are left"),
        (raw(512), b"\0" * 513, "the body has 1 bytes that belong to no input"),
        (raw(8), b"\0" * 8, "inputs[0].parameters.binary_data_size is 8; shape [2, 8, 8] of FP32 has 512 bytes"),
        (raw(-1), b"\0", "inputs[0].parameters.binary_data_size is -1; expected a number of bytes"),
        (raw(512), b"\0\0\x80\x7f" * 128, "inputs[0].data[0][0][0] is inf; expected a finite float32"),
        (
            raw(512) | {"data": FLAT},
            b"\0" * 512,
            "inputs[0] has both data and parameters.binary_data_size; send one of them",
        ),
    ],
)
def test_says_what_is_wrong_with_binary(server: Running, image: dict[str, Any], section: bytes, reason: str) -> None:
    reply = infer(server, {"inputs": [IMAGE | image]}, section)
    assert (reply.status, reply.error) == (400, reason)


def test_the_labels_of_the_rows_are_given_to_who_asks(server: Running) -> None:
    content = {"inputs": [IMAGE | {"data": FLAT}], "parameters": {"labels": True}}
    reply = infer(server, content)
    likeliest = np.reshape(reply.body["outputs"][0]["data"], (2, 10)).argmax(axis=1)
    assert reply.body["parameters"] == {"labels": [str(digit) for digit in likeliest]}
    assert server.post(f"{INFER}?labels=true", content | {"parameters": None}).body == reply.body


@pytest.mark.parametrize("place", ['{"inputs": [], "parameters": {"labels": %s}}', '{"inputs": [{"name": %s}]}'])
def test_what_is_nested_deeply_is_refused(server: Running, place: str) -> None:
    reply = server.ask("POST", INFER, (place % ("[" * 1000 + "]" * 1000)).encode())
    assert (reply.status, "nested too deeply" in reply.error) == (400, True)


def test_zeros_before_the_length_of_the_json_do_not_count(server: Running) -> None:
    request = binary({"inputs": [IMAGE | raw(IMAGES.nbytes)]}, IMAGES.tobytes())
    length = request["headers"]["Inference-Header-Content-Length"]
    request["headers"]["Inference-Header-Content-Length"] = "0" * 5000 + length
    assert server.ask("POST", INFER, **request).status == 200


@pytest.mark.parametrize("length", ["x", "-1", "9999999", "1" * 50])
def test_a_wrong_length_of_the_json(server: Running, length: str) -> None:
    reply = server.ask("POST", INFER, b"{}", {"Inference-Header-Content-Length": length})
    assert (reply.status, reply.error) == (
        400,
        f"Inference-Header-Content-Length is {length!r}; expected at most the body's 2 bytes",
    )


@pytest.mark.parametrize("section", [b"\5", b"\5\0\0\0red", b"\3\0\0\0red\1"])
def test_broken_strings(server_of_everything: Running, section: bytes) -> None:
    inputs = _everything(colour={"shape": [1], "datatype": "BYTES"} | raw(len(section)))
    reply = infer(server_of_everything, {"inputs": inputs}, section)
    assert reply.status == 400
    assert reply.error.startswith("inputs[0]: ")
