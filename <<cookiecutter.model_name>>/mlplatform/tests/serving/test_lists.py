"""Inputs that are lists of any length: rows of several lengths in one request, and in one call of the model."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import numpy as np
import pytest

from mlplatform.contract.lengths import Length
from mlplatform.serving.model.runtime import longest, sample_rows
from mlplatform.serving.model.signature import SignatureError, read_signature
from mlplatform.store.manifest import read_directory
from mlplatform.tests.serving.running import NAME, PREDICT, Running, service_toml, serving

INFER = f"/v2/models/{NAME}/infer"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose store holds `lists`."""
    from mlplatform.tests.serving.models import publish_lists

    directory = tmp_path_factory.mktemp("lists")
    publish_lists(directory)
    return directory


@pytest.fixture(scope="module", params=["tensorflow", "litert"])
def server(request: pytest.FixtureRequest, store: Path) -> Iterator[Running]:
    with serving(service_toml(store), runtime=request.param) as running:
        running.wait_for(200)
        yield running


def row(*strokes: list[float], weight: float = 1) -> dict[str, Any]:
    return {"strokes": list(strokes), "weight": weight}


def totals(server: Running, content: dict[str, Any]) -> tuple[list[float], list[int]]:
    """The sums of the rows, and to which length each was filled up."""
    reply = server.predict(content)
    assert reply.status == 200, reply.body
    if "outputs" in reply.body:
        return reply.body["outputs"]["total"], reply.body["outputs"]["filled"]
    predictions = reply.body["predictions"]
    return [one["total"] for one in predictions], [one["filled"] for one in predictions]


def v2(rows: list[list[list[float]]], weights: list[float]) -> dict[str, Any]:
    return {
        "inputs": [
            {"name": "strokes", "shape": list(np.shape(rows)), "datatype": "FP32", "data": rows},
            {"name": "weight", "shape": [len(weights)], "datatype": "FP32", "data": weights},
        ]
    }


def test_rows_of_one_request_may_differ_in_length(server: Running) -> None:
    rows = [row([1, 2]), row([1, 2], [3, 4], [0, 1]), row([5, 5], [1, 0], weight=2)]
    assert totals(server, {"instances": rows}) == ([3, 11, 22], [3, 3, 3])
    assert totals(server, {"instances": rows[:1]}) == ([3], [1])


def test_columns_of_one_request_may_differ_in_length(server: Running) -> None:
    columns = {"strokes": [[[1, 2]], [[1, 2], [3, 4]]], "weight": [1, 10]}
    assert totals(server, {"inputs": columns}) == ([3, 100], [2, 2])


@pytest.mark.parametrize("count", [1, 3, 5])
def test_v2_takes_rows_of_any_one_length(server: Running, count: int) -> None:
    request = v2([[[1, 2]] * count] * 2, [1, 2])
    reply = server.post(INFER, request)
    assert reply.status == 200, reply.body
    assert [output["data"] for output in reply.body["outputs"]] == [[3 * count, 6 * count], [count, count]]
    sections = [struct.pack(f"<{4 * count}f", *[1, 2] * 2 * count), struct.pack("<2f", 1, 2)]
    for entry, section in zip(request["inputs"], sections, strict=True):
        del entry["data"]
        entry["parameters"] = {"binary_data_size": len(section)}
    text = json.dumps(request).encode()
    reply = server.ask("POST", INFER, b"".join([text, *sections]), {"Inference-Header-Content-Length": str(len(text))})
    assert reply.status == 200, reply.body
    assert [output["data"] for output in reply.body["outputs"]] == [[3 * count, 6 * count], [count, count]]


def test_a_caller_of_v2_fills_up_shorter_rows_as_the_server_does(server: Running) -> None:
    reply = server.post(INFER, v2([[[1, 2], [-1, -1]], [[1, 2], [3, 4]]], [1, 1]))
    assert reply.body["outputs"][0]["data"] == [3, 10]


@pytest.mark.parametrize(
    ("strokes", "sentence"),
    [
        ([], "instances[1].strokes has 0 elements; expected 1 to 5 (a row is float32 of shape [1 to 5, 2])"),
        ([[1, 2]] * 6, "instances[1].strokes has 6 elements; expected 1 to 5 (a row is float32 of shape [1 to 5, 2])"),
        ([[1, 2], [3]], "instances[1].strokes[1] has 1 elements; expected 2 (a row is float32 of shape [1 to 5, 2])"),
        ([[1, 2], 3], "instances[1].strokes[1] is 3; expected a list of 2 values"),
        ([[1, 2], [3, "x"]], 'instances[1].strokes[1][1] is "x"; expected a number (float32)'),
        ([[1, None]], "instances[1].strokes[0][1] is null; expected a number (float32)"),
        ([[1, 1e300]], "instances[1].strokes[0][1] is 1e+300; expected a finite float32"),
        (None, "instances[1].strokes is null; expected a list of lists"),
        (7, "instances[1].strokes is 7; expected a list of lists"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(server: Running, strokes: Any, sentence: str) -> None:
    reply = server.predict({"instances": [row([1, 2]), {"strokes": strokes, "weight": 1}]})
    assert reply.status == 400
    assert reply.error.startswith(sentence)


@pytest.mark.parametrize("count", [0, 6])
def test_v2_refuses_lists_that_are_too_short_or_too_long(server: Running, count: int) -> None:
    request = v2([[[1, 2]] * 5], [1])
    request["inputs"][0]["shape"] = [1, count, 2]
    reply = server.post(INFER, request)
    assert reply.status == 400
    assert reply.error == (
        f"inputs[0].shape is [1,{count},2]; expected 1 to 5 in its second place (a row is float32 of shape [1 to 5, 2])"
    )


def test_metadata_says_that_the_length_is_any(server: Running) -> None:
    strokes, _ = server.get(f"/v2/models/{NAME}").body["inputs"]
    assert strokes == {"name": "strokes", "datatype": "FP32", "shape": [-1, -1, 2]}


def test_the_openapi_document_says_how_long_lists_may_be(server: Running) -> None:
    document = server.get("/openapi.json").body
    content = document["paths"][PREDICT]["post"]["requestBody"]["content"]["application/json"]
    jsonschema_rs.validate(content["schema"], content["example"])
    jsonschema_rs.validate(content["schema"], {"instances": [row([1, 2]), row([1, 2], [3, 4])]})
    for count in (0, 6):
        with pytest.raises(jsonschema_rs.ValidationError):
            jsonschema_rs.validate(content["schema"], {"instances": [row(*[[1.0, 2.0]] * count)]})
    content = document["paths"][INFER]["post"]["requestBody"]["content"]["application/json"]
    jsonschema_rs.validate(content["schema"], content["example"])
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(content["schema"], v2([[[1, 2]] * 6], [1]))


def test_samples_of_several_lengths_are_filled_up_and_the_longest_is_tried(store: Path) -> None:
    manifest, _ = read_directory(store / "store" / "models" / "cccccccccccc")
    signature = read_signature(manifest.properties)
    rows = sample_rows(manifest.properties, signature)
    assert rows[0].tolist() == [[[1, 2], [-1, -1], [-1, -1]], [[1, 2]] * 3]
    assert [array.shape for array in longest(rows, signature)] == [(2, 5, 2), (2,)]


@pytest.mark.parametrize(
    ("shape", "dtype"), [([None, 3], "float32"), ([None, None, None], "float32"), ([None, None], "string")]
)
def test_a_signature_that_cannot_be_filled_up_is_refused(shape: list[int | None], dtype: str) -> None:
    tensor = {"name": "x", "shape": shape, "dtype": dtype, "length": Length(1, 5).to_json()}
    with pytest.raises(SignatureError, match="only lists of numbers can have a length"):
        read_signature({"signature": {"inputs": [tensor], "outputs": []}})
