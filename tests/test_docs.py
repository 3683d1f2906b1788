"""The pages of docs/ name only what is there, and their commands do what they say."""

from pathlib import Path

import pytest
from references import missing_references
from rendered import ROOT

PAGES = sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.unit
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_nothing_that_is_not_there(page: Path) -> None:
    assert missing_references(page, ROOT) == []
