"""The pages of template and repository name only what is there, and their commands do what they say."""

import html
import re
from pathlib import Path

import dashboard
import pytest
import yaml
from conftest import Render
from references import missing_references, sessions
from rendered import DIRECTORY, ROOT

PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
# Of a rendered repository; its README.md is looked at with every option.
RENDERED_PAGES = sorted(
    path.relative_to(ROOT / DIRECTORY)
    for folder in ("docs", "deploy")
    for path in (ROOT / DIRECTORY / folder).rglob("*.md")
)


@pytest.mark.unit
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_nothing_that_is_not_there(page: Path) -> None:
    assert missing_references(page, ROOT) == []


@pytest.mark.render
@pytest.mark.parametrize("page", RENDERED_PAGES, ids=str)
def test_a_rendered_page_names_nothing_that_is_not_there(page: Path, render: Render) -> None:
    repository = render({})
    assert missing_references(repository / page, repository) == []


@pytest.mark.unit
@pytest.mark.parametrize("directory", [ROOT, ROOT / DIRECTORY], ids=["template", "repository"])
def test_the_hook_before_a_commit_runs_the_session_that_lints(directory: Path) -> None:
    settings = yaml.safe_load((directory / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (hook,) = (hook for repository in settings["repos"] for hook in repository["hooks"])
    assert hook["entry"] == ".venv/bin/nox -s lint"
    assert "lint" in sessions(directory)


@pytest.mark.render
def test_no_file_of_a_repository_carries_the_templates_licence(render: Render) -> None:
    repository = render({})
    assert not (repository / "LICENSE").exists()
    pages = [page.read_text(encoding="utf-8") for page in repository.rglob("*.md")]
    assert not [page for page in pages if "Apache License" in page]


@pytest.mark.unit
def test_the_picture_of_the_dashboard_is_what_its_file_gives() -> None:
    # When it is not: python tests/dashboard.py --update
    assert dashboard.drawn() == dashboard.PICTURE.read_text(encoding="utf-8")


@pytest.mark.unit
def test_the_picture_of_the_dashboard_shows_every_widget_and_every_metric_it_asks_for() -> None:
    source = dashboard.SOURCE.read_text(encoding="utf-8")
    shown = re.sub(r"<[^>]*>", "\n", dashboard.drawn())
    titles = [html.escape(title, quote=False) for title in re.findall(r'"title": "([^"<]+)"', source)]
    metrics = re.findall(r'"query": "\w+:([\w.]+)\{', source)
    assert len(titles) > 25
    assert [name for name in (*titles, *metrics) if name not in shown] == []
