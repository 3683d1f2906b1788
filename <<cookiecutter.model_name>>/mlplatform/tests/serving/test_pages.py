"""What a person with a browser sees, and the OpenAPI document behind it."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import mlplatform
from mlplatform.serving.api.openapi import _scalar
from mlplatform.serving.model.signature import Tensor
from mlplatform.tests.serving.browser import MISSING, PROGRAM, Page, browser
from mlplatform.tests.serving.running import NAME, PREDICT, Running, service_toml, serving

AMBER = "rgb(184, 102, 15)"
needs_browser = pytest.mark.skipif(PROGRAM is None, reason=MISSING)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@needs_browser
def test_the_front_page_begins_with_what_it_is_for_and_a_try_and_then_has_the_figures(
    server: Running, page: Page
) -> None:
    page.open(f"{server.url}/")
    text = page.wait_for("The model")
    shape = "8 \N{MULTIPLICATION SIGN} 8"
    takes = f"takes image float32 {shape}"
    parts = (NAME, "Ready", "Try it", "accuracy 98.0 %", "size", takes, "Labels: 0, 1, 2")
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    time = r"\d+ (second|minute|hour|day)s?"
    assert re.search(rf"size [\d.]+ kB age {time} runtime tensorflow up for {time}", text)


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
def test_it_can_be_tried_with_the_keyboard_alone_and_the_answer_is_read_out(server: Running, page: Page) -> None:
    page.open(f"{server.url}/")
    page.wait_for("Sample 1 (3)")
    page.press("Tab", 9)
    assert page.evaluate("document.activeElement.textContent") == "Sample 1 (3)"
    page.press("Tab", 9)
    assert page.evaluate("document.activeElement.id") == "request"
    page.press("Enter", 13, control=True)
    page.wait_for("200 in ")
    assert page.evaluate("document.getElementById('took').closest('[aria-live=polite]') !== null")


@needs_browser
def test_a_mistake_in_what_is_tried_is_explained(server: Running, page: Page) -> None:
    page.open(f"{server.url}/")
    page.wait_for("Sample 1 (3)")
    page.evaluate("document.getElementById('request').value = '{\"instances\": [1]}'")
    page.evaluate("document.getElementById('predict').click()")
    assert "instances[0] is 1; expected a list of 8 lists" in page.wait_for("400 in ")


@needs_browser
def test_a_model_with_other_outputs_is_shown_by_its_signature(server_of_everything: Running, page: Page) -> None:
    page.open(f"{server_of_everything.url}/")
    text = page.wait_for("The model")
    assert "takes series float32 any gives total float32 one value" in text
    page.evaluate(
        "document.getElementById('request').value ="
        """ '{"instances": [{"colour": "red", "index": 1, "flag": false, "series": [1, 2]}]}'"""
    )
    page.evaluate("document.getElementById('predict').click()")
    assert "13 total 1 colour_id red! name" in page.wait_for("200 in ")


@needs_browser
def test_a_model_of_several_targets_says_of_each_how_good_it_is_and_what_it_gives(tmp_path: Path, page: Page) -> None:
    from mlplatform.tests.serving.models import publish_of_several_targets

    publish_of_several_targets(tmp_path)
    with serving(service_toml(tmp_path, runtime="litert")) as server:
        server.wait_for(200)
        page.open(f"{server.url}/")
        text = page.wait_for("The model")
        assert "Sample 1 (kind dog, mass 7.5, traits old)" in text
        figures = "kind: accuracy 75.0 % mass: mean absolute error 1.5 traits: macro f1 50.0 % test examples 9"
        assert figures in text
        assert "Labels: kind: cat, dog; traits: old, tame, loud" in text
        page.evaluate("document.getElementById('predict').click()")
        given = "kind dog 75.0 % cat 25.0 % 7 kg mass traits old, loud old 90.0 % loud 40.0 % tame 20.0 %"
        assert given in page.wait_for("200 in ")


@needs_browser
def test_while_it_is_loading_the_pages_say_so_in_amber_and_become_ready_by_themselves(
    light: Path, tmp_path: Path, page: Page
) -> None:
    with serving(service_toml(tmp_path, runtime="litert")) as waiting, browser(tmp_path / "profile") as docs:
        waiting.wait_for(503)
        page.open(f"{waiting.url}/")
        docs.open(f"{waiting.url}/docs")
        for opened in (page, docs):
            assert re.search(r"Not ready yet: no model in .* for \d+ seconds?", opened.wait_for("second"))
            assert opened.evaluate("getComputedStyle(document.getElementById('state')).backgroundColor") == AMBER
            assert opened.evaluate("document.querySelector('progress').checkVisibility()")
        assert PREDICT not in docs.wait_for("V1 protocol")
        (tmp_path / "store").symlink_to(light.parent / "store")
        assert "Ready" in page.wait_for("Try it")
        assert "Ready" in docs.wait_for(PREDICT)
        assert not docs.evaluate("document.querySelector('progress').checkVisibility()")


@needs_browser
def test_the_docs_group_routes_by_protocol_and_fold_versions(server: Running, page: Page) -> None:
    page.open(f"{server.url}/docs")
    text = page.wait_for("The server")
    parts = (
        "V1 protocol",
        f"POST{PREDICT} Predict",
        "V2 protocol",
        f"/v2/models/{NAME}/infer",
        "The server",
        "Liveness",
    )
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert "/versions/" not in text
    page.evaluate(
        "for (const d of document.querySelectorAll('details')) if (/by name/.test(d.textContent)) d.open = true"
    )
    assert f"/v1/models/{NAME}/versions/{{version}}:predict" in page.wait_for("/versions/")


@needs_browser
def test_the_docs_send_a_request(server: Running, page: Page) -> None:
    page.open(f"{server.url}/docs")
    page.wait_for("Predict")
    opened = "[...document.querySelectorAll('details')].find(d => d.textContent.includes(':predict'))"
    page.evaluate(f"{opened}.open = true; {opened}.querySelector('button.main').click()")
    page.wait_for('200 OK {"predictions":[[')


def sample(page: Page, path: str, language: str) -> str:
    """The program that the docs show for a path."""
    box = f"[...document.querySelectorAll('summary code')].find(c => c.textContent === '{path}').closest('details')"
    page.evaluate(f"[...{box}.querySelectorAll('button')].find(b => b.textContent === '{language}').click()")
    return str(page.evaluate(f"{box}.querySelector('.samples pre').textContent"))


@needs_browser
@pytest.mark.parametrize("path", [PREDICT, f"/v2/models/{NAME}/infer", f"/v2/models/{NAME}"])
def test_the_samples_to_copy_run_as_they_stand(server: Running, page: Page, path: str) -> None:
    page.open(f"{server.url}/docs")
    page.wait_for("The server")
    in_python = sample(page, path, "Python, requests")
    ran = subprocess.run([sys.executable, "-c", in_python], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    in_shell = sample(page, path, "curl")
    if shutil.which("curl"):
        answered = subprocess.run(in_shell, shell=True, capture_output=True, text=True, check=True).stdout
        expected = ast.literal_eval(ran.stdout)
        assert {**json.loads(answered), "id": ""} == {**expected, "id": ""}


@needs_browser
@pytest.mark.clients
def test_the_sample_for_tritonclient_runs_as_it_stands(server: Running, page: Page) -> None:
    page.open(f"{server.url}/docs")
    page.wait_for("The server")
    program = sample(page, f"/v2/models/{NAME}/infer", "Python, tritonclient")
    uv = shutil.which("uv") or os.environ.get("UV", "uv")
    command = [uv, "run", "--no-project", "--with", "tritonclient[http]", "python", "-c", program]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ran.stdout.startswith("[["), ran.stdout + ran.stderr


@needs_browser
@pytest.mark.parametrize(("path", "comes_last"), [("/", "The model"), ("/docs", "The server")])
def test_a_page_fits_a_phone_and_can_be_read_in_the_dark(
    server: Running, page: Page, path: str, comes_last: str
) -> None:
    try:
        for scheme in ("light", "dark"):
            page.prefer(scheme)
            page.open(f"{server.url}{path}", width=360, height=700)
            page.wait_for(comes_last)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert page.evaluate("document.querySelectorAll('main').length") == 1
            for element in ("h1", ".state", ".note", "a", "button.main"):
                assert contrast(page, element) >= 4.5, (scheme, element)
    finally:
        page.prefer("light")


def contrast(page: Page, selector: str) -> float:
    """Contrast of an element's text with what is behind it, as WCAG 2 defines it."""
    behind = """(e) => { for (; e; e = e.parentElement) {
        const c = getComputedStyle(e).backgroundColor; if (c !== "rgba(0, 0, 0, 0)") return c; } }"""
    element = f"document.querySelector('{selector}')"
    colours = page.evaluate(f"[getComputedStyle({element}).color, ({behind})({element})]")
    light, dark = sorted((luminance(colour) for colour in colours), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    """Relative luminance of rgb(...)."""
    shares = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_pages_have_the_colours_of_the_reports() -> None:
    package = Path(mlplatform.__file__).parent
    styles = (package / "serving/api/pages/style.css", package / "reporting/page.css")
    pages, reports = (re.findall(r"--\w[\w-]*: #\w+", style.read_text()) for style in styles)
    assert pages == reports


def test_the_document_is_made_without_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        edges = [_scalar(Tensor("x", (), dtype))["maximum"] for dtype in ("float16", "float32", "float64")]
    # Half a step above the largest value rounds to it.
    assert [float(np.dtype(dtype).type(edge)) for dtype, edge in zip(("float16", "float32"), edges, strict=False)] == [
        65504.0,
        float(np.finfo(np.float32).max),
    ]
    assert edges[2] == float(np.finfo(np.float64).max)


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
