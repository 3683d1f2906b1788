"""Inputs of which numbers may be missing: null, a name left out and NaN mean the same, on both runtimes."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from mlplatform.tests.serving.running import NAME, PREDICT, Running, service_toml, serving

INFER = f"/v2/models/{NAME}/infer"
NAN = float("nan")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose store holds `gaps`."""
    from mlplatform.tests.serving.models import publish_gaps

    directory = tmp_path_factory.mktemp("gaps")
    publish_gaps(directory)
    return directory


@pytest.fixture(scope="module", params=["tensorflow", "litert"])
def server(request: pytest.FixtureRequest, store: Path) -> Iterator[Running]:
    with serving(service_toml(store), runtime=request.param) as running:
        running.wait_for(200)
        yield running


def totals(server: Running, content: dict[str, Any]) -> Any:
    reply = server.predict(content)
    assert reply.status == 200, reply.body
    return reply.body.get("predictions", reply.body.get("outputs"))


def v2(age: list[Any], sizes: list[Any], count: list[int]) -> dict[str, Any]:
    rows = len(count)
    return {
        "inputs": [
            {"name": "age", "shape": [rows], "datatype": "FP32", "data": age},
            {"name": "sizes", "shape": [rows, 3], "datatype": "FP32", "data": sizes},
            {"name": "count", "shape": [rows], "datatype": "INT32", "data": count},
        ]
    }


def binary(server: Running, age: float, sizes: tuple[float, ...], count: int) -> Any:
    content = v2([], [], [count])
    sections = [struct.pack("<f", age), struct.pack("<3f", *sizes), struct.pack("<i", count)]
    for entry, section in zip(content["inputs"], sections, strict=True):
        del entry["data"]
        entry["parameters"] = {"binary_data_size": len(section)}
    text = json.dumps(content).encode()
    return server.ask("POST", INFER, b"".join([text, *sections]), {"Inference-Header-Content-Length": str(len(text))})


@pytest.mark.parametrize(
    ("row", "total"),
    [
        ({"age": None, "sizes": [1, 2, 3], "count": 4}, 1010),
        ({"sizes": [1, 2, 3], "count": 4}, 1010),
        ({"age": 5.5, "sizes": [1, None, 3], "count": 4}, 23.5),
        ({"age": 5, "sizes": None, "count": 4}, 39),
        ({"age": 5, "count": 4}, 39),
        ({"count": 4}, 1034),
    ],
)
def test_in_a_row_null_and_a_name_left_out_mean_missing(server: Running, row: dict[str, Any], total: float) -> None:
    whole = {"age": 1.0, "sizes": [1, 1, 1], "count": 1}
    assert totals(server, {"instances": [row]}) == [total]
    assert totals(server, {"instances": [whole, row, row]}) == [5, total, total]


def test_in_columns_null_means_missing(server: Running) -> None:
    columns = {"age": [None, 1], "sizes": [[1, 2, None], None], "count": [0, 0]}
    assert totals(server, {"inputs": columns}) == [1013, 31]


@pytest.mark.parametrize(
    "sizes", [[1, 2, None, None, None, None], [[1, 2, None], [None, None, None]], [[1, 2, None], None]]
)
def test_in_v2_null_means_missing(server: Running, sizes: list[Any]) -> None:
    reply = server.post(INFER, v2([None, 1], sizes, [0, 0]))
    assert reply.status == 200, reply.body
    assert reply.body["outputs"][0]["data"] == [1013, 31]


def test_in_raw_bytes_nan_means_missing(server: Running) -> None:
    reply = binary(server, NAN, (1, NAN, 3), 4)
    assert reply.status == 200, reply.body
    assert reply.body["outputs"][0]["data"] == [1018]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"count": None}, "instances[0].count is null; expected a number (int32)"),
        ({"age": "x"}, 'instances[0].age is "x"; expected a number (float32) or null'),
        ({"age": True}, "instances[0].age is true; expected a number (float32) or null"),
        ({"age": 1e300}, "instances[0].age is 1e+300; expected a finite float32"),
        ({"sizes": [1, None]}, "instances[0].sizes has 2 elements; expected 3"),
        ({"other": None}, 'instances[0]: unknown input "other"'),
    ],
)
def test_what_is_wrong_is_still_told(server: Running, changes: dict[str, Any], sentence: str) -> None:
    reply = server.predict({"instances": [{"age": None, "sizes": [1, None, 2], "count": 3} | changes]})
    assert reply.status == 400
    assert reply.error.startswith(sentence)


def test_an_input_that_may_not_be_missing_is_asked_for(server: Running) -> None:
    reply = server.predict({"instances": [{"age": 1}]})
    assert (reply.status, reply.error) == (400, "instances[0]: input 'count' (one int32) is missing")
    reply = server.predict({"inputs": {"count": [1]}})
    assert (reply.status, reply.error) == (400, "inputs: input 'age' (one float32 or null) is missing")


def test_one_number_is_no_column(server: Running) -> None:
    reply = server.predict({"inputs": {"age": 5, "sizes": [[1, 2, 3]], "count": [1]}})
    assert (reply.status, reply.error) == (400, "inputs.age is 5; expected a list of rows, each one float32 or null")


def test_infinity_is_not_missing(server: Running) -> None:
    reply = binary(server, float("inf"), (1, NAN, 3), 4)
    assert (reply.status, reply.error) == (400, "inputs[0].data[0] is inf; expected a finite float32")


def test_the_openapi_document_says_what_may_be_left_out(server: Running) -> None:
    document = server.get("/openapi.json").body
    content = document["paths"][PREDICT]["post"]["requestBody"]["content"]["application/json"]
    jsonschema_rs.validate(content["schema"], content["example"])
    for row in ({"count": 1}, {"count": 1, "age": None, "sizes": None}, {"count": 1, "sizes": [None, 1, 2]}):
        jsonschema_rs.validate(content["schema"], {"instances": [row]})
        assert server.predict({"instances": [row]}).status == 200
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(content["schema"], {"instances": [{"count": None}]})


def test_the_image_build_tries_a_row_in_which_all_that_may_be_is_missing(store: Path) -> None:
    from mlplatform.serving.model.runtime import sample_rows
    from mlplatform.serving.model.signature import read_signature
    from mlplatform.store.manifest import read_directory

    manifest, _ = read_directory(store / "store" / "models" / "eeeeeeeeeeee")
    age, sizes, count = sample_rows(manifest.properties, read_signature(manifest.properties))
    assert [str(value) for value in age] == ["nan", "nan"]
    assert str(sizes.tolist()) == "[[1.0, nan, 2.0], [nan, nan, nan]]"
    assert count.tolist() == [3, 3]
