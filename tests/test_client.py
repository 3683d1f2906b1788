"""The client that a rendered repository shows to callers, run as a program."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from rendered import DIRECTORY, ROOT

pytestmark = pytest.mark.unit

CLIENT = ROOT / DIRECTORY / "examples" / "client.py"


@contextmanager
def answering(*statuses: int) -> Iterator[tuple[str, list[str]]]:
    """A server that answers with these statuses, one after the other, and the paths that it was asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status = statuses[len(paths)]
            paths.append(self.path)
            body = json.dumps({"predictions": [[0.25, 0.75]]} if status == 200 else {"error": "busy"}).encode()
            self.send_response(status)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", paths
        finally:
            server.shutdown()
            thread.join()


def ask(url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(CLIENT), url, "leaf-reader"]
    return subprocess.run(command, input='[{"leaf": 1}]', capture_output=True, text=True)


def test_asks_again_as_long_as_the_server_is_busy() -> None:
    with answering(503, 503, 200) as (url, paths):
        result = ask(url)
    assert (result.returncode, result.stdout) == (0, "[0.25, 0.75]\n"), result.stderr
    assert paths == ["/v1/models/leaf-reader:predict"] * 3


def test_gives_up_after_five_attempts_with_the_servers_reason() -> None:
    with answering(*[503] * 9) as (url, paths):
        result = ask(url)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == 'requests.exceptions.HTTPError: 503: {"error": "busy"}'
    assert len(paths) == 5


def test_does_not_repeat_a_request_that_is_refused() -> None:
    with answering(400) as (url, paths):
        result = ask(url)
    assert result.returncode == 1
    assert len(paths) == 1
