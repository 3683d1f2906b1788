"""POST /v1/models/<name>:predict, against a running server."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from mlplatform.tests.serving.running import NAME, PREDICT, Running

ROW = " (a row is float32 of shape [8, 8])"
IMAGE = [[float(8 * row + column) for column in range(8)] for row in range(8)]


def test_gives_a_row_of_probabilities_for_each_instance(server: Running, reference: Any) -> None:
    reply = server.predict({"instances": [{"image": IMAGE}, {"image": np.zeros((8, 8)).tolist()}]})
    assert reply.status == 200
    expected = reference({"image": np.array([IMAGE, np.zeros((8, 8))], np.float32)})
    np.testing.assert_allclose(reply.body["predictions"], expected, atol=1e-5)


def test_a_model_with_one_input_takes_the_bare_value_too(server: Running) -> None:
    named = server.predict({"instances": [{"image": IMAGE}]})
    assert server.predict({"instances": [IMAGE]}).body == named.body
    assert server.predict({"instances": [IMAGE], "signature_name": "serving_default"}).body == named.body


def test_columns_are_answered_as_columns(server: Running) -> None:
    by_row = server.predict({"instances": [IMAGE]}).body["predictions"]
    assert server.predict({"inputs": {"image": [IMAGE]}}).body == {"outputs": by_row}
    assert server.predict({"inputs": [IMAGE]}).body == {"outputs": by_row}


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "application/octet-stream"])
def test_takes_json_whatever_the_client_calls_it(server: Running, kind: str) -> None:
    """curl sends the first by default."""
    body = b'{"instances": [%s]}' % str(IMAGE).encode()
    assert server.ask("POST", PREDICT, body, {"Content-Type": kind}).status == 200


@pytest.mark.parametrize(
    "beside",
    [{"signature_name": None}, {"signature_name": ""}, {"parameters": None}, {"parameters": {"a": {"b": ["c", 1]}}}],
)
def test_takes_what_other_servers_take_beside_the_rows(server: Running, beside: dict[str, object]) -> None:
    plain = server.predict({"instances": [IMAGE]})
    assert server.predict({"instances": [IMAGE]} | beside).body == plain.body


def test_the_labels_of_the_rows_are_given_to_who_asks(server: Running) -> None:
    labels = server.get(f"/v1/models/{NAME}/metadata").body["metadata"]["labels"]
    assert labels == [str(digit) for digit in range(10)]
    for form, key in (("instances", "predictions"), ("inputs", "outputs")):
        reply = server.post(f"{PREDICT}?labels=true", {form: [IMAGE, IMAGE]})
        likeliest = labels[int(np.argmax(reply.body[key][0]))]
        assert reply.body["labels"] == [likeliest] * 2


def test_labels_are_refused_where_there_are_none(server_of_everything: Running) -> None:
    columns = {"colour": ["red"], "index": [0], "flag": [False], "series": [[1.0]]}
    reply = server_of_everything.post(f"{PREDICT}?labels=true", {"inputs": columns})
    assert (reply.status, reply.error) == (400, "labels were asked for, and the model has none")


def test_labels_are_asked_for_by_true(server: Running) -> None:
    reply = server.post(f"{PREDICT}?labels=please", {"instances": [IMAGE]})
    assert (reply.status, reply.error) == (400, "labels is 'please' in the query; expected true or false")


def test_the_version_may_be_named(server: Running) -> None:
    path = "/v1/models/pictures/versions/{}:predict"
    assert server.post(path.format("aaaaaaaaaaaa"), {"instances": [IMAGE]}).status == 200
    reply = server.post(path.format("1"), {"instances": [IMAGE]})
    assert (reply.status, reply.error) == (404, "no version '1' here; this server has 'aaaaaaaaaaaa'")


@pytest.mark.parametrize("label", ["latest", "stable"])
def test_a_label_stands_for_the_version_that_is_served(server: Running, label: str) -> None:
    path = f"/v1/models/{NAME}/labels/{label}"
    assert server.post(f"{path}:predict", {"instances": [IMAGE]}).body == server.predict({"instances": [IMAGE]}).body
    assert server.get(path).body == server.get(f"/v1/models/{NAME}").body
    assert server.get(f"{path}/metadata").body == server.get(f"/v1/models/{NAME}/metadata").body


@pytest.mark.parametrize("verb", [":predict", "", "/metadata"])
def test_an_unknown_label_is_refused_and_the_known_ones_are_named(server: Running, verb: str) -> None:
    path = f"/v1/models/{NAME}/labels/canary{verb}"
    reply = server.post(path, {"instances": [IMAGE]}) if verb == ":predict" else server.get(path)
    expected = "no label 'canary' here; 'latest' and 'stable' stand for version 'aaaaaaaaaaaa'"
    assert (reply.status, reply.error) == (404, expected)


def test_a_large_answer_is_compressed_for_who_accepts_it(server: Running) -> None:
    body = json.dumps({"instances": [IMAGE] * 1000}).encode()
    plain = server.ask("POST", PREDICT, body)
    assert (plain.headers["Vary"], plain.headers["Content-Encoding"]) == ("Accept-Encoding", None)
    packed = server.ask("POST", PREDICT, body, {"Accept-Encoding": "br, gzip;q=0.5"})
    assert (packed.headers["Vary"], packed.headers["Content-Encoding"]) == ("Accept-Encoding", "gzip")
    assert packed.body == plain.body
    for refused in ("gzip;q=0", "br", "gzip;q=0, *"):
        assert server.ask("POST", PREDICT, body, {"Accept-Encoding": refused}).headers["Content-Encoding"] is None


def test_a_small_answer_is_not_worth_compressing(server: Running) -> None:
    body = json.dumps({"instances": [IMAGE]}).encode()
    assert server.ask("POST", PREDICT, body, {"Accept-Encoding": "gzip"}).headers["Content-Encoding"] is None


def test_more_instances_than_a_batch_holds(server: Running, reference: Any) -> None:
    images = np.random.default_rng(1).uniform(0, 16, (500, 8, 8)).astype(np.float32)
    reply = server.predict({"instances": images.tolist()})
    np.testing.assert_allclose(reply.body["predictions"], reference({"image": images}), atol=1e-5)


def test_every_answer_goes_to_its_own_asker(server: Running, reference: Any) -> None:
    images = np.random.default_rng(2).uniform(0, 16, (200, 8, 8)).astype(np.float32)
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda image: server.predict({"instances": [image.tolist()]}), images))
    assert {reply.status for reply in replies} == {200}
    predictions = [reply.body["predictions"][0] for reply in replies]
    np.testing.assert_allclose(predictions, reference({"image": images}), atol=1e-5)


def test_inputs_of_every_kind(server_of_everything: Running) -> None:
    instances = [
        {"colour": "red", "index": 1, "flag": False, "series": [1, 2.5]},
        {"colour": {"b64": "Z3JlZW4="}, "index": 2, "flag": True, "series": [3, 4]},
    ]
    assert server_of_everything.predict({"instances": instances}).body == {
        "predictions": [
            {"total": 13.5, "colour_id": 1, "name": "red!"},
            {"total": 1027.0, "colour_id": 2, "name": "green!"},
        ]
    }
    columns = {"colour": ["red"], "index": [0], "flag": [False], "series": [[1.0, 2.0, 3.0]]}
    assert server_of_everything.predict({"inputs": columns}).body == {
        "outputs": {"total": [6.0], "colour_id": [1], "name": ["red!"]}
    }


def test_requests_of_different_lengths_do_not_disturb_each_other(server_of_everything: Running) -> None:
    def ask(length: int) -> float:
        instance = {"colour": "red", "index": 0, "flag": False, "series": [1.0] * length}
        return float(server_of_everything.predict({"instances": [instance]}).body["predictions"][0]["total"])

    lengths = [1 + i % 7 for i in range(100)]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, lengths)) == lengths


def test_one_bad_request_does_not_fail_its_neighbours(server_of_everything: Running) -> None:
    def ask(index: int) -> int:
        instance = {"colour": "red", "index": index, "flag": False, "series": [1.0]}
        return server_of_everything.predict({"instances": [instance]}).status

    indices = [9 if i % 10 == 0 else 1 for i in range(100)]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, indices)) == [400 if index == 9 else 200 for index in indices]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, 'the request has neither instances nor inputs; expected {"instances": [...]}'),
        ([1], 'the body is [1]; expected an object such as {"instances": [...]}'),
        ({"instances": 3}, "instances is 3; expected a list"),
        ({"instances": []}, "instances is empty; expected at least one row"),
        ({"instances": [IMAGE] * 1025}, "instances has 1025 rows; at most 1024 in one request, so send several"),
        ({"instances": [IMAGE], "inputs": [IMAGE]}, "the request has both instances and inputs; send one of them"),
        (
            {"instances": [IMAGE], "x": 1},
            'unknown field "x"; a request has: instances, inputs, signature_name, parameters',
        ),
        ({"instances": [IMAGE], "signature_name": "train"}, "signature_name is \"train\"; expected 'serving_default'"),
        (
            {"instances": [IMAGE, IMAGE[:7]]},
            "instances[1] has 7 elements; expected 8 (a row is float32 of shape [8, 8])",
        ),
        (
            {"instances": [{"image": IMAGE}, {"image": [*IMAGE[:7], IMAGE[0][:5]]}]},
            "instances[1].image[7] has 5 elements; expected 8 (a row is float32 of shape [8, 8])",
        ),
        ({"instances": [[*IMAGE[:7], [0] * 7 + ["1"]]]}, 'instances[0][7][7] is "1"; expected a number (float32)'),
        ({"instances": [[*IMAGE[:7], [0] * 7 + [True]]]}, "instances[0][7][7] is true; expected a number (float32)"),
        ({"instances": [[*IMAGE[:7], [0] * 7 + [None]]]}, "instances[0][7][7] is null; expected a number (float32)"),
        ({"instances": [[*IMAGE[:7], [0] * 7 + [1e39]]]}, "instances[0][7][7] is 1e+39; expected a finite float32"),
        ({"instances": [{"image": IMAGE}, {}]}, "instances[1]: input 'image' (float32 of shape [8, 8]) is missing"),
        (
            {"instances": [{"image": IMAGE, "age": 3}]},
            'instances[0]: unknown input "age"; the model takes image (float32 of shape [8, 8])',
        ),
        (
            {"instances": [{"image": IMAGE}, 5]},
            "instances[1] is 5; expected an object with image (float32 of shape [8, 8])",
        ),
        ({"instances": [5]}, "instances[0] is 5; expected a list of 8 lists (a row is float32 of shape [8, 8])"),
    ],
)
def test_says_what_is_wrong_and_where(server: Running, content: object, reason: str) -> None:
    reply = server.predict(content)
    assert (reply.status, reply.error) == (400, reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"index": 256}, "instances[0].index is 256; expected an integer from 0 to 255 (uint8)"),
        ({"index": -1}, "instances[0].index is -1; expected an integer from 0 to 255 (uint8)"),
        ({"index": 1.5}, "instances[0].index is 1.5; expected an integer from 0 to 255 (uint8)"),
        ({"flag": 1}, "instances[0].flag is 1; expected true or false"),
        ({"colour": 7}, 'instances[0].colour is 7; expected a string or {"b64": "..."}'),
        ({"colour": {"b64": "%"}}, 'instances[0].colour is {"b64":"%"}; expected a string or {"b64": "..."}'),
        ({"series": 1}, "instances[0].series is 1; expected a list of values (a row is float32 of shape [any])"),
        ({"index": 99}, "the model rejects these values: indices[0] = 99 is not in [0, 3)"),
    ],
)
def test_says_which_value_does_not_fit(server_of_everything: Running, change: dict[str, object], reason: str) -> None:
    instance = {"colour": "red", "index": 1, "flag": False, "series": [1.0]} | change
    reply = server_of_everything.predict({"instances": [instance]})
    assert reply.status == 400
    assert reply.error.startswith(reason)


def test_rows_of_one_request_have_one_shape(server_of_everything: Running) -> None:
    rows = [{"colour": "red", "index": 1, "flag": False, "series": series} for series in ([1.0], [1.0, 2.0])]
    reply = server_of_everything.predict({"instances": rows})
    assert (reply.status, reply.error) == (
        400,
        "instances[1].series has 2 elements, instances[0].series has 1; "
        "the rows of one request must have the same shape",
    )
    columns = {"colour": ["red"], "index": [0, 1], "flag": [False], "series": [[1.0]]}
    reply = server_of_everything.predict({"inputs": columns})
    assert reply.error.startswith(
        "the inputs must have the same number of rows: inputs.colour has 1, inputs.index has 2"
    )


def test_what_is_no_json(server: Running) -> None:
    reply = server.ask("POST", PREDICT, b'{"instances": [1,')
    assert reply.status == 400
    assert reply.error.startswith("the body is not JSON: ")


def test_parameters_that_are_nested_too_deeply(server: Running) -> None:
    deep = b'{"instances": [[1]], "parameters": {"x": ' + b"[" * 1000 + b"]" * 1000 + b"}}"
    reply = server.ask("POST", PREDICT, deep)
    assert (reply.status, reply.error) == (400, "the body is nested more than 32 levels deep")


def test_nan_is_no_json_either(server: Running) -> None:
    assert server.ask("POST", PREDICT, b'{"instances": [NaN]}').status == 400
