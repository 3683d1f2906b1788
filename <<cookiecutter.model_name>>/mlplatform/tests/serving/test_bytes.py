"""Inputs of bytes, such as image files: {"b64": ...} in V1, BYTES in V2 as base64 or raw."""

import base64
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from mlplatform.tests.serving.browser import MISSING, PROGRAM, browser
from mlplatform.tests.serving.running import NAME, PREDICT, Running, service_toml, serving

INFER = f"/v2/models/{NAME}/infer"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    from mlplatform.tests.serving.models import publish_files

    directory = tmp_path_factory.mktemp("files")
    publish_files(directory)
    with serving(service_toml(directory)) as running:
        running.wait_for(200)
        yield running


@pytest.fixture(scope="module")
def photo(server: Running) -> str:
    """The sample's file, in base64."""
    text: str = server.get("/").body["model"]["samples"][0]["instance"]["photo"]["b64"]
    return text


def tensor(**more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "photo", "datatype": "BYTES", "shape": [1], **more}]}


def test_v1_takes_b64_in_rows_and_columns(server: Running, photo: str) -> None:
    assert server.predict({"instances": [{"photo": {"b64": photo}}]}).body == {"predictions": [100]}
    assert server.predict({"instances": [{"b64": photo}]}).body == {"predictions": [100]}
    assert server.predict({"inputs": {"photo": [{"b64": photo}]}}).body == {"outputs": [100]}


def test_v2_takes_base64_as_json_and_raw_bytes(server: Running, photo: str) -> None:
    reply = server.post(INFER, tensor(data=[photo]))
    assert reply.status == 200, reply.body
    assert reply.body["outputs"][0]["data"] == [100]
    content = base64.b64decode(photo)
    section = struct.pack("<I", len(content)) + content
    text = json.dumps(tensor(parameters={"binary_data_size": len(section)})).encode()
    reply = server.ask("POST", INFER, text + section, {"Inference-Header-Content-Length": str(len(text))})
    assert reply.status == 200, reply.body
    assert reply.body["outputs"][0]["data"] == [100]


@pytest.mark.parametrize("value", ["text", {"b64": "no base64"}, 1, None])
def test_what_is_no_base64_is_refused_with_what_would_do(server: Running, value: object) -> None:
    reply = server.predict({"instances": [{"photo": value}]})
    shown = json.dumps(value, separators=(",", ":"))
    assert reply.status == 400
    assert reply.error == f'instances[0].photo is {shown}; expected image/png as {{"b64": "..."}}'


def test_the_openapi_document_says_what_the_bytes_are(server: Running, photo: str) -> None:
    document = server.get("/openapi.json").body
    content = document["paths"][PREDICT]["post"]["requestBody"]["content"]["application/json"]
    jsonschema_rs.validate(content["schema"], content["example"])
    assert '"contentMediaType": "image/png"' in json.dumps(content["schema"])
    content = document["paths"][INFER]["post"]["requestBody"]["content"]["application/json"]
    jsonschema_rs.validate(content["schema"], tensor(data=[photo]))
    assert server.post(INFER, content["example"]).status == 200


@pytest.mark.skipif(PROGRAM is None, reason=MISSING)
def test_a_file_can_be_tried_on_the_front_page(server: Running, photo: str, tmp_path: Path) -> None:
    with browser(tmp_path) as page:
        page.open(f"{server.url}/")
        page.wait_for("Sample 1 (100)")
        page.evaluate(
            f"""(() => {{
                const bytes = Uint8Array.from(atob("{photo}"), (c) => c.charCodeAt(0));
                const files = new DataTransfer();
                files.items.add(new File([bytes], "grey.png", {{ type: "image/png" }}));
                document.getElementById("request").value = "{{}}";
                const choice = document.querySelector("#files input");
                choice.files = files.files;
                return choice.onchange();
            }})()"""
        )
        assert page.evaluate("document.getElementById('photo').src") == f"data:image/png;base64,{photo}"
        page.evaluate("document.getElementById('predict').click()")
        assert "100 brightness" in page.wait_for("200 in ")
