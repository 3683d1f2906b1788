"""What a change of the template does to a rendered repository, as a unified diff.

`render_diff.py [OLD [NEW]]`: two git revisions of the template; OLD is HEAD and NEW the working tree unless given.
Every option of every choice is rendered; a difference that only some answers show says which.
"""

import argparse
import difflib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rendered import PARTS, ROOT, VARIANTS, copy_template, files, render


def check_out(revision: str | None, destination: Path) -> Path:
    """The template at a git revision, or as it stands in the working tree; RuntimeError if there is no such one."""
    if revision is None:
        return copy_template(ROOT, destination)
    archive = subprocess.run(["git", "archive", revision, "--", *PARTS], cwd=ROOT, capture_output=True)
    if archive.returncode:
        raise RuntimeError(f"{revision}: {archive.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(destination, filter="data")
    return destination


def render_variants(template: Path, output: Path) -> list[dict[str, bytes]]:
    """The files of every variant, without the name of the repository; none for one the template cannot render."""

    def render_variant(number: int) -> dict[str, bytes]:
        try:
            return files(render(template, output / str(number), VARIANTS[number]))
        except RuntimeError as error:
            print(f"not rendered with {describe(VARIANTS[number])}: {last_line(error)}", file=sys.stderr)
            return {}

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(render_variant, range(len(VARIANTS))))


def last_line(error: Exception) -> str:
    """The last line of an error's text."""
    return str(error).strip().rpartition("\n")[2]


def describe(answers: Mapping[str, str]) -> str:
    """Answers as they are given on a command line."""
    return " ".join(map("=".join, answers.items())) or "the defaults"


def difference(path: str, old: bytes | None, new: bytes | None) -> str:
    """A unified diff of one file; empty if it is the same."""
    if old == new:
        return ""
    names = ("/dev/null" if old is None else f"a/{path}", "/dev/null" if new is None else f"b/{path}")
    try:
        before, after = ((content or b"").decode("utf-8").splitlines(keepends=True) for content in (old, new))
    except UnicodeDecodeError:
        return f"Binary files {names[0]} and {names[1]} differ\n"
    return "".join(difflib.unified_diff(before, after, *names)) or f"Empty files {names[0]} and {names[1]} differ\n"


def compare(old: list[dict[str, bytes]], new: list[dict[str, bytes]]) -> str:
    """The differences between two renderings of all variants, each once."""
    seen: dict[str, list[int]] = {}
    for number, (before, after) in enumerate(zip(old, new, strict=True)):
        for path in sorted(before.keys() | after.keys()):
            text = difference(path, before.get(path), after.get(path))
            if text:
                seen.setdefault(text, []).append(number)
    report = []
    for text, numbers in seen.items():
        if len(numbers) < len(old):
            report.append(f"# only with {' | '.join(describe(VARIANTS[number]) for number in numbers)}\n")
        report.append(text)
    return "".join(report)


def main() -> int:
    """Prints the difference; exit status 0, or 2 with a sentence if a revision cannot be read."""
    parser = argparse.ArgumentParser(prog="nox -s render_diff --", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("old", nargs="?", default="HEAD", help="git revision of the template, by default HEAD")
    parser.add_argument("new", nargs="?", help="git revision of the template, by default the working tree")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        try:
            old = check_out(arguments.old, work / "old")
            new = check_out(arguments.new, work / "new")
        except RuntimeError as error:
            print(error, file=sys.stderr)
            return 2
        report = compare(render_variants(old, work / "old-rendered"), render_variants(new, work / "new-rendered"))
    print(report or "no difference in any rendered repository", end="" if report else "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
