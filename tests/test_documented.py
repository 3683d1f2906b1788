"""Every command in a shell block of README.md, docs/ and a rendered repository's pages is executed by a test.

A test takes its commands from the page by `documented`, which is how they are found here; delivery's are given one
after the other by a rendered repository's own mlplatform/tests/delivery/test_pages.py. What no test can execute stands
below.
"""

import ast
from pathlib import Path

import pytest
from conftest import Render
from documented import commands, documented
from rendered import DIRECTORY, ROOT

TESTS = ROOT / "tests"
DELIVERY = ".venv/bin/nox -s delivery -- "
# Why no test executes it as it stands, and where the same is done.
ELSEWHERE = {
    "python3 -m venv .venv && .venv/bin/pip install -q -r requirements/dev.txt": (
        "CI begins with the same command; nox installs these packages in test_rendered_repository.py"
    ),
    "docker build -f docker/training.Dockerfile -t training .": "built by containers/conftest.py, under another tag",
    "mkdir -p store": "the store is S3 there",
    'docker run --rm --user "$(id -u):$(id -g)" -v "$PWD/store:/store" -e STORAGE_URL=/store training --epochs 5': (
        "run as a job of AWS Batch by containers/batch.py, with the store in S3"
    ),
    "docker build -f docker/serving.Dockerfile --build-arg MODEL=store/models/VERSION -t serving .": (
        "built by containers/conftest.py under a tag of its own, with the version that was trained there"
    ),
    "docker run --rm -p 8080:8080 serving": "run by containers/server.py on a port that is free",
}


def pages(root: Path) -> list[Path]:
    """The pages of the template, or of a rendered repository."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md")), *sorted((root / "deploy").rglob("*.md"))]


def taken() -> list[tuple[bool, str, str]]:
    """Of each call of `documented`: whether it is of the template itself, the page and the part."""
    found = []
    for path in sorted(TESTS.rglob("test_*.py")):
        if path == Path(__file__) or TESTS / "golden" in path.parents:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "documented":
                root, page, part = node.args
                assert isinstance(page, ast.Constant)
                assert isinstance(part, ast.Constant)
                found.append((ast.unparse(root) == "ROOT", str(page.value), str(part.value)))
    return found


@pytest.mark.unit
def test_every_command_of_the_templates_pages_is_executed() -> None:
    told = {command for page in pages(ROOT) for command in commands(page.read_text(encoding="utf-8"))}
    executed = {documented(ROOT, page, part) for of_template, page, part in taken() if of_template}
    assert len(told) >= 5
    assert told - executed == set()


@pytest.mark.render
def test_every_command_of_a_rendered_repositorys_pages_is_executed_or_named_here(render: Render) -> None:
    repository = render({})
    told = {command for page in pages(repository) for command in commands(page.read_text(encoding="utf-8"))}
    executed = {documented(repository, page, part) for of_template, page, part in taken() if not of_template}
    delivery = {command for command in told if command.startswith(DELIVERY)}
    assert len(executed) >= 3
    assert len(delivery) >= 15
    assert told - executed - delivery == set(ELSEWHERE)
    # What is executed is not excused as well.
    assert executed.isdisjoint(ELSEWHERE)


@pytest.mark.unit
def test_delivery_commands_are_executed_by_the_repositorys_own_tests() -> None:
    story = (ROOT / DIRECTORY / "mlplatform" / "tests" / "delivery" / "test_pages.py").read_text(encoding="utf-8")
    assert f'COMMAND = re.compile(r"{DELIVERY.removeprefix(".venv/bin/")}([^`\\n]+)")' in story
    for place in ('"README.md"', '"docs"', '"deploy"'):
        assert place in story


@pytest.mark.unit
def test_a_command_over_several_lines_is_one() -> None:
    text = "```sh\na 'b\nc'\nd\n```\n\n```toml\nx = 1\n```\n\n```bash\ne\n```\n"
    assert commands(text) == ["a 'b\nc'", "d", "e"]
