"""The pages of docs/ name only what is there, and their commands do what they say."""

from pathlib import Path

import pytest
from conftest import Render
from references import missing_references
from rendered import DIRECTORY, ROOT

PAGES = sorted((ROOT / "docs").glob("*.md"))
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
