"""Writes down the files that the default answers render, one path a line, for a test to hold the template to."""

import tempfile
from pathlib import Path

from rendered import ROOT, copy_template, files, render

TREE = Path(__file__).with_name("rendered-tree.txt")

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        repository = render(copy_template(ROOT, Path(temporary) / "template"), Path(temporary) / "output", {})
        TREE.write_text("".join(f"{path}\n" for path in files(repository)), encoding="utf-8")
