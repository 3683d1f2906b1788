"""What a person with a browser sees, and the OpenAPI document behind it."""

import re
from collections.abc import Iterator

import pytest

from mlplatform.tests.serving.browser import MISSING, PROGRAM, Page, browser
from mlplatform.tests.serving.running import NAME, PREDICT, Running

needs_browser = pytest.mark.skipif(PROGRAM is None, reason=MISSING)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@needs_browser
def test_the_front_page_says_what_is_served(server: Running, page: Page) -> None:
    page.open(f"{server.url}/")
    text = page.wait_for("Try it")
    assert f"{NAME} ready" in text
    assert "takes image: float32 [any, 8, 8]" in text
    assert "accuracy 0.98" in text
    assert "version aaaaaaaaaaaa" in text


@needs_browser
def test_a_sample_can_be_tried_on_the_front_page(server: Running, page: Page) -> None:
    page.open(f"{server.url}/")
    page.wait_for("Sample 1 (3)")
    page.evaluate("[...document.querySelectorAll('button')].find(b => b.textContent === 'Sample 1 (3)').click()")
    page.evaluate("document.getElementById('predict').click()")
    text = page.wait_for("200 in ")
    (probabilities,) = server.predict({"instances": [{"image": [[1.0] * 8] * 8}]}).body["predictions"]
    best = max(probabilities)
    # Below the time that it took: the likeliest labels, the best first.
    assert f" ms {probabilities.index(best)} {100 * best:.1f} %" in text


@needs_browser
def test_a_mistake_in_what_is_tried_is_explained(server: Running, page: Page) -> None:
    page.open(f"{server.url}/")
    page.wait_for("Sample 1 (3)")
    page.evaluate("document.getElementById('request').value = '{\"instances\": [1]}'")
    page.evaluate("document.getElementById('predict').click()")
    assert "instances[0] is 1; expected a list of 8 lists" in page.wait_for("400 in ")


@needs_browser
def test_the_docs_list_the_routes_and_send_a_request(server: Running, page: Page) -> None:
    page.open(f"{server.url}/docs")
    assert f"POST{PREDICT} Predict" in page.wait_for("Predict")
    opened = "[...document.querySelectorAll('details')].find(d => d.textContent.includes(':predict'))"
    page.evaluate(f"{opened}.open = true; {opened}.querySelector('button').click()")
    page.wait_for('200 OK {"predictions":[[')


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
