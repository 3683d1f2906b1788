"""`doctor --jenkins`: a Jenkins of the user checks the Jenkinsfile."""

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest

from mlplatform.tests.delivery.conftest import Delivery, Repository


@contextmanager
def jenkins(status: int, said: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """URL of a Jenkins whose validator says this, and what it is asked."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            asked.append({"path": self.path, "form": form, "user": self.headers.get("Authorization")})
            self.send_response(status)
            self.end_headers()
            self.wfile.write(said.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def _jenkinsfile(repository: Repository) -> None:
    (repository.path / "Jenkinsfile").write_text("pipeline { }\n")


def test_the_validator_gets_the_file_and_the_users_token(delivery: Delivery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JENKINS_USER", "anne")
    monkeypatch.setenv("JENKINS_TOKEN", "t0ken")
    with jenkins(200, "Jenkinsfile successfully validated.\n") as (url, asked):
        said = delivery("doctor", "--jenkins", f"{url}/")
    assert (said.code, said.out) == (0, f"{url}/: Jenkinsfile successfully validated.\n")
    (request,) = asked
    assert request["path"] == "/pipeline-model-converter/validate"
    assert request["form"] == {"jenkinsfile": ["pipeline { }\n"]}
    assert request["user"] == f"Basic {base64.b64encode(b'anne:t0ken').decode()}"


@pytest.mark.parametrize(
    ("status", "said", "told"),
    [
        (
            200,
            "Errors encountered validating Jenkinsfile:\nline 1",
            "Errors encountered validating Jenkinsfile:\nline 1",
        ),
        (403, "no", "refuses with 403; set JENKINS_USER, and JENKINS_TOKEN"),
        (404, "no", "has no validator"),
        (500, "", "500"),
    ],
)
def test_what_it_does_not_accept_fails_with_its_words(delivery: Delivery, status: int, said: str, told: str) -> None:
    with jenkins(status, said) as (url, _):
        found = delivery("doctor", "--jenkins", url)
    assert found.code == 1
    assert told in found.err


def test_a_jenkins_that_is_not_there_is_said(delivery: Delivery) -> None:
    found = delivery("doctor", "--jenkins", "http://127.0.0.1:9")
    assert found.code == 1
    assert "http://127.0.0.1:9: Jenkinsfile was not checked: " in found.err
