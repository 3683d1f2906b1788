"""What a person with a browser sees, and the OpenAPI document behind it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.serving.running import NAME, PREDICT, Running

BROWSER = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)


@pytest.fixture
def seen(server: Running, tmp_path: Path) -> object:
    """A function: the text of a page after its scripts have run."""

    def look(path: str) -> str:
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
        command = [str(BROWSER), *options, "--virtual-time-budget=5000", "--dump-dom", server.url + path]
        page = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
        return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))

    return look


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_the_front_page_says_what_is_served(seen: object) -> None:
    assert callable(seen)
    text = seen("/")
    assert f"{NAME} ready" in text
    assert "takes image: float32 [any, 8, 8]" in text
    assert "accuracy 0.9800" in text
    assert "Sample 1 (3)" in text


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_the_docs_list_the_routes(seen: object) -> None:
    assert callable(seen)
    assert f"POST {PREDICT} Predict" in seen("/docs")


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_load_nothing_from_elsewhere(server: Running, path: str) -> None:
    reply = server.get(path, Accept="text/html,*/*;q=0.8")
    assert reply.headers["Content-Type"].startswith("text/html")
    assert "default-src 'self'" in reply.headers["Content-Security-Policy"]
    links = re.findall(rb'(?:src|href)="([^"]*)"', reply.body)
    assert links
    for link in links:
        assert link == b"data:," or server.get(link.decode()).status == 200
    assert server.get("/pages/settings.py").status == 404
    assert server.get("/pages/..%2fsettings.py").status == 404


def test_the_examples_in_the_document_are_true(server: Running) -> None:
    document = server.get("/openapi.json").body
    assert document["openapi"] == "3.1.0"
    examples = 0
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            url = path.replace("{version}", "aaaaaaaaaaaa").replace("{label}", "stable")
            if method == "get":
                assert server.get(url).status == 200, url
            else:
                example = operation["requestBody"]["content"]["application/json"]["example"]
                assert server.post(url, example).status == 200, url
                examples += 1
    assert examples == 5
