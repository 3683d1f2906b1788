"""Large JSON bodies: read and explained like small ones."""

import json
from typing import Any

import numpy as np
import pytest

from mlplatform.tests.serving.running import PREDICT, Running

ROWS = 800
IMAGES = np.random.default_rng(7).uniform(0, 16, (ROWS, 8, 8)).astype(np.float32)
ROW = "(a row is float32 of shape [8, 8])"


def rows() -> list[Any]:
    images: list[Any] = IMAGES.tolist()
    return images


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("form", ["bare", "named", "columns", "named columns"])
def test_every_form_of_a_large_request_is_read(server: Running, reference: Any, form: str, indent: int | None) -> None:
    content = {
        "bare": {"instances": rows()},
        "named": {"instances": [{"image": row} for row in rows()]},
        "columns": {"inputs": rows()},
        "named columns": {"inputs": {"image": rows()}},
    }[form]
    reply = server.ask("POST", PREDICT, json.dumps(content, indent=indent).encode())
    assert reply.status == 200, reply.body
    predictions = reply.body["outputs" if "columns" in form else "predictions"]
    np.testing.assert_allclose(predictions, reference({"image": IMAGES}), atol=1e-5)


@pytest.mark.parametrize("data", [IMAGES.tolist(), IMAGES.ravel().tolist()])
def test_a_large_v2_request_is_read(server: Running, reference: Any, data: object) -> None:
    entry = {"name": "image", "shape": [ROWS, 8, 8], "datatype": "FP32", "data": data}
    reply = server.post("/v2/models/pictures/infer", {"inputs": [entry]})
    (output,) = reply.body["outputs"]
    np.testing.assert_allclose(np.reshape(output["data"], (ROWS, 10)), reference({"image": IMAGES}), atol=1e-5)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("]]]}", "],[1]]]}", "instances[799] has 9 elements; expected 8 " + ROW),
        ("]]]}", "]],[1]]}", "instances[800] has 1 elements; expected 8 " + ROW),
        ("]]]}", "]]," + "[[1,1,1,1,1,1,1,1]]," * 300 + "1]}", "instances has 1101 rows; at most 1024 in one request"),
        ("]]]}", "]],]}", "the body is not JSON: "),
        ("]]]}", "]]]", "the body is not JSON: "),
        ("]]]}", "]]]]}", "the body is not JSON: "),
        ("]]]}", '],["a],[b"]]]}', "instances[799] has 9 elements; expected 8 " + ROW),
        ("]]]}", ",true]]]}", "instances[799][7] has 9 elements; expected 8 " + ROW),
        ("[[[", "[[[1e39,", "instances[0][0] has 9 elements; expected 8 " + ROW),
        ("[[[", "[[[[", "the body is not JSON: "),
    ],
)
def test_a_fault_is_told_by_its_place(server: Running, old: str, new: str, reason: str) -> None:
    body = json.dumps({"instances": rows()}, separators=(",", ":")).replace(old, new, 1)
    reply = server.ask("POST", PREDICT, body.encode())
    assert (reply.status, reply.error[: len(reason)]) == (400, reason)


def test_a_value_out_of_range_far_down_is_told_by_its_place(server: Running) -> None:
    images = rows()
    images[700][3][5] = 1e39
    reply = server.predict({"instances": images})
    assert (reply.status, reply.error) == (400, "instances[700][3][5] is 1e+39; expected a finite float32")
