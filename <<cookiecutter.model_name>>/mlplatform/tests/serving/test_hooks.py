"""A hook that is registered on the Flask application holds on every route, the predict routes too."""

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, request

from mlplatform.serving.api.app import create_app
from mlplatform.serving.model.service import Service
from mlplatform.serving.settings import ServingSettings
from mlplatform.tests.serving.running import NAME as SERVED
from mlplatform.tests.serving.running import PREDICT, service_toml, serving
from mlplatform.tests.serving.test_request_record import BODY, Application, Patient

NAME = "doubling"
SPELLINGS = (
    "/",
    "/docs",
    "/openapi.json",
    "/pages/style.css",
    "/v1/feedback",
    f"/v1/models/{NAME}",
    f"/v1/models/{NAME}:predict",
    f"/v1/models/{NAME}:predict/",
    f"//v1/models/{NAME}:predict",
    f"/v1//models/{NAME}:predict",
    f"/v1/models/{NAME}%3Apredict",
    f"/V1/models/{NAME}:predict",
    f"/v1/models/{NAME}/versions/v7:predict",
    f"/v1/models/{NAME}/labels/stable:predict",
    f"/v1/models/{NAME}/metadata",
    "/v2",
    "/v2/health/ready",
    f"/v2/models/{NAME}/infer",
    f"/v2/models/{NAME}/infer/",
    f"/v2/models/{NAME}/versions/v7/infer",
    f"/v2/models/{NAME}/ready",
    "/nothing",
)


@pytest.fixture
def app() -> Flask:
    """An application whose hook lets nobody in without a key."""
    app = create_app(Service(ServingSettings(), NAME, "template"))

    @app.before_request
    def check() -> Response | None:
        return None if request.headers.get("X-Key") == "good" else Response("who are you?", 401)

    return app


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "PUT"])
@pytest.mark.parametrize("path", SPELLINGS)
def test_a_hook_that_refuses_protects_every_spelling_of_every_route(app: Flask, path: str, method: str) -> None:
    connection: Any = {"serving.connection": Patient()}
    assert app.test_client().open(path, method=method, data=BODY, environ_overrides=connection).status_code == 401


def test_it_protects_every_route_that_there_is(app: Flask) -> None:
    client, connection = app.test_client(), {"serving.connection": Patient()}
    rules = list(app.url_map.iter_rules())
    assert len(rules) > 15
    for rule in rules:
        path = re.sub(r"<[^>]+>", "v7", rule.rule)
        for method in rule.methods or ():
            answer = client.open(path, method=method, data=BODY, environ_overrides=connection)
            assert answer.status_code == 401, (method, path)


@pytest.mark.parametrize("path", [f"/v1/models/{NAME}:predict", f"/v1/models/{NAME}/versions/v7:predict"])
def test_whom_the_hook_lets_in_gets_a_prediction(path: str) -> None:
    application = Application()
    asked = []
    application.flask.before_request(lambda: asked.append(request.path))
    status, _, body = application.post(path)
    assert (status, asked) == ("200 OK", [path])
    assert b"predictions" in body


def test_what_an_after_request_hook_adds_is_on_predictions() -> None:
    application = Application()

    @application.flask.after_request
    def sign(response: Response) -> Response:
        response.headers["X-Signed"] = "yes"
        return response

    _, headers, _ = application.post(f"/v2/models/{NAME}/infer", b'{"inputs": []}')
    assert headers["X-Signed"] == "yes"


HOOKS = """
import hashlib

from flask import Flask, Response, request


def register(app: Flask) -> None:
    @app.before_request
    def check() -> Response | None:
        if request.path.startswith("/v2/health/"):
            return None
        expected = hashlib.sha256(b"secret" + request.get_data()).hexdigest()
        return None if request.headers.get("X-Signature") == expected else Response("who are you?", 401)
"""


@pytest.fixture
def hooked_toml(tmp_path: Path, light: Path) -> Path:
    """A service.toml with the hooks of a team beside it."""
    (tmp_path / "store").symlink_to(light.parent / "store")
    (tmp_path / "serving_hooks.py").write_text(HOOKS)
    return service_toml(tmp_path, runtime="litert", hooks="serving_hooks:register")


def test_a_teams_module_decides_who_gets_an_answer(hooked_toml: Path) -> None:
    body = b'{"instances": [[' + b",".join([b"[1,1,1,1,1,1,1,1]"] * 8) + b"]]}"
    with serving(hooked_toml) as server:
        server.wait_for(200)
        for path in (spelling.replace(NAME, SERVED) for spelling in SPELLINGS):
            expected = 200 if path.startswith("/v2/health/") else 401
            assert server.get(path).status == expected, path
            if expected == 401:
                assert server.ask("POST", path, body).status == 401, path
        signature = hashlib.sha256(b"secret" + body).hexdigest()
        # The hook has read the body; the prediction still has it.
        assert server.ask("POST", PREDICT, body, {"X-Signature": signature}).status == 200


@pytest.mark.parametrize(
    ("hooks", "reason"),
    [
        ("nothing:register", "importing nothing failed: ModuleNotFoundError: No module named 'nothing'"),
        ("serving_hooks:other", "serving_hooks has no function other"),
    ],
)
def test_without_the_hooks_that_are_set_nothing_is_served(hooked_toml: Path, hooks: str, reason: str) -> None:
    with serving(hooked_toml, hooks=hooks) as server:
        assert server.process.wait(60) == 3
        assert f"error: [serving] hooks is '{hooks}', and {reason}" in server.log
        assert "Traceback" not in server.log
