"""The commands that pages tell readers to type: tests take them from the page, so what is tested is what it says."""

import re
import shlex
from pathlib import Path


def commands(text: str) -> list[str]:
    """The commands in the shell blocks of a Markdown text; one may go over several lines in quotes."""
    found, pending = [], ""
    for block in re.findall(r"^```(?:ba)?sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            pending += line
            try:
                shlex.split(pending)
            except ValueError:
                pending += "\n"
                continue
            found.append(pending)
            pending = ""
    return found


def documented(root: Path, page: str, part: str) -> str:
    """The one command of a page that begins or ends with `part`.

    root: of the template, or of a rendered repository. AssertionError if there is none, or more than one.
    """
    all_of_them = commands((root / page).read_text(encoding="utf-8"))
    found = [command for command in all_of_them if command.startswith(part) or command.endswith(part)]
    assert len(found) == 1, f"{page}: {len(found)} commands begin or end with {part!r}"
    return found[0]
