"""Inputs that have no NaN: null and a name left out stand for what the manifest names, in each protocol."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from mlplatform.tests.serving.running import NAME, PREDICT, Running, service_toml, serving

INFER = f"/v2/models/{NAME}/infer"
GONE = "-1;closed;?;?;-0.5"
GIVEN = {"count": 2**53 + 1, "closed": False, "towns": ["a", "b"], "size": 2}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose store holds `sentinels`."""
    from mlplatform.tests.serving.models import publish_sentinels

    directory = tmp_path_factory.mktemp("sentinels")
    publish_sentinels(directory)
    return directory


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[Running]:
    with serving(service_toml(store), runtime="tensorflow") as running:
        running.wait_for(200)
        yield running


def texts(server: Running, content: dict[str, Any]) -> Any:
    reply = server.predict(content)
    assert reply.status == 200, reply.body
    return reply.body.get("predictions", reply.body.get("outputs"))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "9007199254740993;open;a;b;2.0"),
        (dict.fromkeys(GIVEN), GONE),
        ({"count": None}, "-1;open;a;b;2.0"),
        ({"towns": ["a", None]}, "9007199254740993;open;a;?;2.0"),
        ({"towns": None, "closed": None}, "9007199254740993;closed;?;?;2.0"),
    ],
)
def test_in_rows_and_columns_null_is_what_the_manifest_names(
    server: Running, changes: dict[str, Any], text: str
) -> None:
    row = GIVEN | changes
    assert texts(server, {"instances": [GIVEN, row]})[1] == text
    assert texts(server, {"inputs": {name: [value, GIVEN[name]] for name, value in row.items()}})[0] == text


def test_a_row_may_leave_names_out(server: Running) -> None:
    assert texts(server, {"instances": [{}, {"towns": ["a", "b"]}]}) == [GONE, "-1;closed;a;b;-0.5"]


def v2(count: list[Any], closed: list[Any], towns: list[Any], size: list[Any]) -> dict[str, Any]:
    rows = len(count)
    return {
        "inputs": [
            {"name": "count", "shape": [rows], "datatype": "INT64", "data": count},
            {"name": "closed", "shape": [rows], "datatype": "BOOL", "data": closed},
            {"name": "towns", "shape": [rows, 2], "datatype": "BYTES", "data": towns},
            {"name": "size", "shape": [rows], "datatype": "FP32", "data": size},
        ]
    }


@pytest.mark.parametrize("towns", [[None, None, "a", None], [None, ["a", None]], [[None, None], ["a", None]]])
def test_in_v2_null_is_what_the_manifest_names(server: Running, towns: list[Any]) -> None:
    reply = server.post(INFER, v2([None, 5], [None, False], towns, [None, 1]))
    assert reply.status == 200, reply.body
    assert reply.body["outputs"][0]["data"] == [GONE, "5;open;a;?;1.0"]


def test_raw_bytes_hold_the_value_itself(server: Running) -> None:
    content = v2([7], [False], ["a", "b"], [])
    del content["inputs"][3]["data"]
    content["inputs"][3]["parameters"] = {"binary_data_size": 4}
    text = json.dumps(content).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    reply = server.ask("POST", INFER, text + b"\x00\x00\x00\xbf", headers)
    assert reply.body["outputs"][0]["data"] == ["7;open;a;b;-0.5"]
    reply = server.ask("POST", INFER, text + b"\x00\x00\xc0\x7f", headers)
    assert (reply.status, reply.error) == (400, "inputs[3].data[0] is nan; expected a finite float32")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"count": "x"}, 'instances[0].count is "x"; expected a number (int64) or null'),
        ({"count": 1.5}, "instances[0].count is 1.5; expected an integer from "),
        ({"closed": 1}, "instances[0].closed is 1; expected true or false or null"),
        ({"towns": [1, None]}, 'instances[0].towns[0] is 1; expected a string or {"b64": "..."} or null'),
        ({"towns": ["a"]}, "instances[0].towns has 1 elements; expected 2"),
        ({"size": 1e300}, "instances[0].size is 1e+300; expected a finite float32"),
    ],
)
def test_what_is_wrong_is_still_told(server: Running, changes: dict[str, Any], sentence: str) -> None:
    reply = server.predict({"instances": [{"count": None} | changes]})
    assert reply.status == 400
    assert reply.error.startswith(sentence)


def test_the_openapi_document_says_what_may_be_left_out(server: Running) -> None:
    document = server.get("/openapi.json").body
    content = document["paths"][PREDICT]["post"]["requestBody"]["content"]["application/json"]
    for row in ({}, GIVEN, {"count": None, "closed": None, "towns": None}, {"towns": [None, "b"], "size": None}):
        jsonschema_rs.validate(content["schema"], {"instances": [row]})
        assert server.predict({"instances": [row]}).status == 200
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(content["schema"], {"instances": [{"count": "x"}]})


def test_the_image_build_tries_a_row_in_which_all_is_missing(store: Path) -> None:
    from mlplatform.serving.model.runtime import sample_rows
    from mlplatform.serving.model.signature import read_signature
    from mlplatform.store.manifest import read_directory

    manifest, _ = read_directory(store / "store" / "models" / "abababababab")
    rows = sample_rows(manifest.properties, read_signature(manifest.properties))
    assert [array[-1].tolist() for array in rows] == [-1, True, [b"?", b"?"], -0.5]
