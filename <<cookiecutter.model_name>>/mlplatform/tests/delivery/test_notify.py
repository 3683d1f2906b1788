"""`notify`: people are told by a webhook and by an event in Datadog."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from mlplatform.delivery.notify.webhook import Message, body
from mlplatform.tests.delivery.conftest import Delivery, Repository
from mlplatform.tests.delivery.datadog_api import FakeDatadog


@contextmanager
def webhook(status: int = 200) -> Iterator[tuple[str, list[Any]]]:
    """URL of a webhook with a secret in it, and what it gets."""
    got: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/s3cret", got
    finally:
        server.shutdown()
        server.server_close()


def test_the_webhook_gets_what_happened_and_where(
    repository: Repository, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILD_URL", "https://jenkins.example.com/job/7/")
    with webhook() as (url, got):
        monkeypatch.setenv("NOTIFY_URL", url)
        said = delivery("notify", "failure", "Failed: deploy <x>")
    assert said.code == 0, said.err
    link = "<https://jenkins.example.com/job/7/|open the build>"
    assert got == [{"text": f"*under-test: failure*\nFailed: deploy &lt;x&gt;\n{link}"}]


def test_datadog_gets_an_event(repository: Repository, delivery: Delivery, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeDatadog()
    with fake.serving() as url:
        monkeypatch.setenv("DD_API_KEY", "api")
        monkeypatch.setenv("DELIVERY_DATADOG_URL", url)
        assert delivery("notify", "ghost-verdict", "promote").code == 0
    (event,) = fake.events
    assert (event["title"], event["text"], event["alert_type"]) == ("under-test: ghost verdict", "promote", "info")
    assert "occasion:ghost-verdict" in event["tags"]


def test_without_a_url_nobody_is_told_and_nothing_fails(repository: Repository, delivery: Delivery) -> None:
    said = delivery("notify", "training", "Done")
    assert (said.code, said.out) == (0, "nobody was told: NOTIFY_URL is not set\n")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/s3cret", "s3cret"])
def test_a_webhook_that_is_not_there_is_said_without_its_secret(
    repository: Repository, delivery: Delivery, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("NOTIFY_URL", url)
    said = delivery("notify", "approval", "It waits")
    assert said.code in (1, 2)
    assert "s3cret" not in said.out + said.err


def test_a_webhook_that_refuses_fails(
    repository: Repository, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    with webhook(404) as (url, _):
        monkeypatch.setenv("NOTIFY_URL", url)
        said = delivery("notify", "approval", "It waits")
    assert said.code == 1
    assert "127.0.0.1 answered 404" in said.err


@pytest.mark.parametrize("host", ["acme.webhook.office.com", "prod-1.westeurope.logic.azure.com"])
def test_teams_gets_an_adaptive_card(host: str) -> None:
    (attachment,) = body(host, Message("title", "text", "https://jenkins.example.com/job/7/"))["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert [block["text"] for block in attachment["content"]["body"]] == ["title", "text"]
    assert attachment["content"]["actions"][0]["url"] == "https://jenkins.example.com/job/7/"
