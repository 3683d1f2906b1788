"""What observers learn of each request, and the id that names it everywhere."""

import json
from collections.abc import Callable
from http import HTTPStatus
from io import BytesIO
from typing import Any

import numpy as np
import pytest

from mlplatform.serving.api.app import create_app
from mlplatform.serving.model.batching import Batcher
from mlplatform.serving.model.service import ServedModel, Service
from mlplatform.serving.model.signature import Signature, Tensor
from mlplatform.serving.observability.request_record import RequestRecord
from mlplatform.serving.settings import ServingSettings
from mlplatform.store.manifest import Manifest
from mlplatform.tests.serving.running import Running

SIGNATURE = Signature((Tensor("x", (2,), "float32"),), (Tensor("y", (2,), "float32"),))
BODY = json.dumps({"instances": [[1, 2], [3, 4]]}).encode()


class Patient:
    """A client that has sent everything and waits."""

    refused_until = 0.0

    def __init__(self, body: bytes = BODY) -> None:
        self.body = body

    def read_body(self, most: int) -> bytes:
        return self.body

    def gone(self) -> bool:
        return False


class Application:
    """The application with a model that doubles, called as a WSGI server calls it; `seen`: what observers got."""

    def __init__(self, *more: Callable[[RequestRecord], None]) -> None:
        self.seen: list[RequestRecord] = []
        service = Service(ServingSettings(), "doubling", "template")
        manifest = Manifest("model", "v7", "2026-01-01T00:00:00Z", "content", {}, {})
        service.model = ServedModel(manifest, SIGNATURE, Batcher(lambda x: [2 * x[0]], {1: 1e-6, 4: 1e-6}, 1.0))
        self.flask = create_app(service, [*more, self.seen.append])
        self.wsgi: Any = self.flask.wsgi_app

    def post(self, path: str, body: bytes = BODY, **environ: str) -> tuple[str, dict[str, str], bytes]:
        answer: list[Any] = []
        request = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": path,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "wsgi.url_scheme": "http",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": BytesIO(body),
            "serving.connection": Patient(body),
            **environ,
        }
        content = self.wsgi(request, lambda status, headers: answer.extend([status, dict(headers)]))
        sent = b"".join(content)
        if content_close := getattr(content, "close", None):
            content_close()
        return answer[0], answer[1], sent


def test_an_exchange_holds_arrays_answer_and_model_call() -> None:
    app = Application()
    _, _, sent = app.post("/v1/models/doubling:predict", HTTP_X_REQUEST_ID="order 66")
    (record,) = app.seen
    assert (record.request_id, record.protocol, record.version) == ("order 66", "v1", "v7")
    assert (record.status, record.rows, record.error) == (HTTPStatus.OK, 2, None)
    assert (record.body, record.answer) == (BODY, sent)
    np.testing.assert_array_equal(record.outputs[0], 2 * record.inputs[0])
    assert [(call.rows, call.requests) for call in record.calls] == [(2, 1)]


def test_its_times_follow_each_other() -> None:
    app = Application()
    app.post("/v2/models/doubling/infer", _v2())
    (record,) = app.seen
    (call,) = record.calls
    times = [record.started, record.read, record.parsed, call.started, call.ended]
    times += [record.computed, record.finished]
    assert times == sorted(times)
    assert times[0] > 0
    parts = record.queue_seconds + record.model_seconds + (record.parsed - record.started)
    assert 0 < parts < record.seconds


def test_a_request_larger_than_a_batch_lists_all_its_model_calls() -> None:
    app = Application()
    app.post("/v1/models/doubling:predict", json.dumps({"instances": [[1, 2]] * 6}).encode())
    assert [call.rows for call in app.seen[0].calls] == [4, 2]


def test_an_observer_is_told_after_the_answer_is_sent() -> None:
    app = Application()
    request = {"REQUEST_METHOD": "POST", "PATH_INFO": "/v1/models/doubling:predict", "serving.connection": Patient()}
    answer = app.flask.extensions["inference"].directly(request)
    assert b"predictions" in answer.body
    assert app.seen == []
    answer.sent()
    assert len(app.seen) == 1


def test_a_refused_request_is_told_with_its_error() -> None:
    app = Application()
    status, headers, _ = app.post("/v1/models/doubling:predict", b"{")
    (record,) = app.seen
    assert (status, record.status) == ("400 Bad Request", HTTPStatus.BAD_REQUEST)
    assert "not JSON" in str(record.error)
    assert record.calls == []
    assert headers["X-Request-ID"] == record.request_id


@pytest.mark.parametrize("path", ["/v1/models/doubling/versions/v7:predict", "/v1/models/doubling/versions/v0:predict"])
def test_a_route_that_flask_answers_is_told_as_well(path: str) -> None:
    app = Application()
    status, headers, _ = app.post(path)
    assert [f"{each.status.value} {each.status.phrase}".upper() for each in app.seen] == [status.upper()]
    assert headers["X-Request-ID"] == app.seen[0].request_id


def test_an_observer_that_fails_neither_hurts_the_answer_nor_the_next_observer() -> None:
    def fails(record: RequestRecord) -> None:
        raise RuntimeError("broken")

    app = Application(fails)
    status, _, _ = app.post("/v1/models/doubling:predict")
    assert status == "200 OK"
    assert len(app.seen) == 1


@pytest.mark.parametrize("given", ["", "x" * 129, "naïve"])
def test_an_id_that_is_too_long_or_not_printable_is_replaced(given: str) -> None:
    app = Application()
    app.post("/v1/models/doubling:predict", HTTP_X_REQUEST_ID=given)
    app.post("/v1/models/doubling:predict", HTTP_X_REQUEST_ID=given)
    made = {record.request_id for record in app.seen}
    assert len(made) == 2
    assert given not in made


@pytest.mark.parametrize("content", [{"instances": [[1] * 4]}, {"instances": "none"}])
def test_every_answer_of_a_predict_route_carries_the_id(server: Running, content: object) -> None:
    reply = server.ask("POST", "/v1/models/pictures:predict", json.dumps(content).encode(), {"X-Request-ID": "abc"})
    assert reply.headers["X-Request-ID"] == "abc"


def _v2() -> bytes:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
    return json.dumps({"inputs": [tensor]}).encode()
