"""Finds what a page names although it does not exist: commands, sessions, modules, paths, links and headings."""

import ast
import os
import re
import shlex
import tomllib
from functools import cache
from itertools import dropwhile, groupby, pairwise
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rendered import DIRECTORY

# Made by the commands that pages tell of, so they are not there in the beginning.
MADE_LATER = (
    ".venv",
    ".nox",
    "store",
    ".work",
    "demo",
    "datasets",
    "runs",
    "models",
    "releases",
    "sources",
    "fleet-clones",
    ".cruft.json",
)
# Commands that a user has, or gets by the set-up line.
PROGRAMS = {
    "cd",
    "cookiecutter",
    "cruft",
    "curl",
    "docker",
    "git",
    "mkdir",
    "nox",
    "pip",
    "pipx",
    "pytest",
    "python",
    "python3",
    "uv",
    "uvx",
}
SUFFIXES = r"\.(py|toml|md|json|jsonl|csv|txt|in|gz|yaml|yml|sh|Dockerfile)"


def missing_references(page: Path, root: Path | None = None) -> list[str]:
    """One line for each thing that a page names and that is not below `root`, by default the page's own directory."""
    directory = root or page.parent
    tokens = _tokens(page)
    inline = [child for token in tokens for child in token.children or []]
    missing = []
    for token in tokens:
        if token.type == "fence" and token.info in {"bash", "sh", "shell"}:
            missing += _missing_in_commands(token.content, directory)
    for child in inline:
        if child.type == "code_inline":
            missing += _missing_in_code(child.content, directory)
        if child.type == "link_open":
            missing += _missing_link(str(child.attrGet("href")), page)
    return missing


def _tokens(page: Path) -> list[Token]:
    return _parsed(page.read_text(encoding="utf-8"))


# The pages of every variant are nearly the same.
@cache
def _parsed(text: str) -> list[Token]:
    return MarkdownIt("commonmark").parse(text)


def sessions(directory: Path) -> set[str]:
    """Names of the nox sessions of a directory."""
    return _sessions((directory / "noxfile.py").read_text(encoding="utf-8"))


@cache
def _sessions(noxfile: str) -> set[str]:
    tree = ast.parse(noxfile)
    found = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                called = decorator.func if isinstance(decorator, ast.Call) else decorator
                if ast.unparse(called) in {"nox.session", "session"}:
                    found.add(node.name)
    return found


def _missing_in_commands(script: str, directory: Path) -> list[str]:
    """A script's commands one by one: quotes may go over several lines, and so may what stands in them."""
    missing, pending = [], ""
    for line in script.replace("\\\n", " ").splitlines():
        pending += f"{line}\n"
        try:
            lexer = shlex.shlex(pending, posix=True, punctuation_chars="|&;")
            lexer.whitespace_split = True
            words = list(lexer)
        except ValueError:
            continue
        pending = ""
        for is_separator, command in groupby(words, key=lambda word: set(word) <= set("|&;")):
            if not is_separator:
                missing += _missing_in_command(list(command), directory)
    return missing + ([f"end of {pending}"] if pending else [])


def _missing_in_command(command: list[str], directory: Path) -> list[str]:
    words = list(dropwhile(lambda word: re.match("[A-Z_]+=", word), command))
    if not words:
        return []
    missing = []
    program = Path(words[0]).name
    if program not in PROGRAMS and not (directory / words[0]).is_file():
        missing.append(f"command {words[0]}")
    if program == "nox":
        missing += _missing_sessions(words, directory)
    if "-m" in words[:-1] and program.startswith("python"):
        missing += _missing_module(words[words.index("-m") + 1], directory)
    if "-r" in words[:-1]:
        missing += _missing_path(words[words.index("-r") + 1], directory)
    return missing


def _missing_sessions(words: list[str], directory: Path) -> list[str]:
    """Sessions that follow -s, up to the next option."""
    named: list[str] = []
    if "-s" in words:
        for word in words[words.index("-s") + 1 :]:
            if word.startswith("-"):
                break
            named.append(word)
    return [f"nox session {name}" for name in named if name not in sessions(directory)]


def _missing_module(name: str, directory: Path) -> list[str]:
    if name in {"venv", "pip", "pytest", "json.tool", "nox"}:
        return []
    for path in (place.joinpath(*name.split(".")) for place in _places(directory)):
        if (path / "__main__.py").is_file() or path.with_suffix(".py").is_file():
            return []
    return [f"module {name}"]


def _places(directory: Path) -> list[Path]:
    """Where a page's paths start: its repository and, of the template, what is rendered."""
    return [directory, directory / DIRECTORY]


def _missing_in_code(code: str, directory: Path) -> list[str]:
    if re.match(r"(\S*/)?(nox|python3?|pip) -", code):
        return _missing_in_commands(code, directory)
    if re.match(r"\[[a-z_.]+\]$", code) and (directory / "service.toml").is_file():
        return _missing_section(code.strip("[]"), directory)
    # `*.csv` is a kind of file, `/v1/models` an address.
    is_path = re.fullmatch(rf"[\w.*/-]+({SUFFIXES}|/)", code) and not code.startswith(("/", "*"))
    return _missing_path(code, directory) if is_path else []


def _missing_section(name: str, directory: Path) -> list[str]:
    settings = tomllib.loads((directory / "service.toml").read_text(encoding="utf-8"))
    # A table in a section, such as [gate.recall], may be one that a reader adds.
    return [] if name.partition(".")[0] in settings else [f"section [{name}] of service.toml"]


def _missing_path(path: str, directory: Path) -> list[str]:
    wanted = path.rstrip("/")
    # The team writes these.
    if wanted.endswith(".team.in"):
        return []
    if wanted.split("/")[0] in MADE_LATER or any(any(place.glob(wanted)) for place in _places(directory)):
        return []
    # A bare name may stand for a file or a directory in any package: manifest.json, model/.
    return [] if "/" not in wanted and wanted in _names(directory) else [f"path {path}"]


def _names(directory: Path) -> set[str]:
    """Names of all files and directories below a directory."""
    names: set[str] = set()
    for _, directories, files in os.walk(directory):
        directories[:] = [name for name in directories if name not in {*MADE_LATER, ".git"}]
        names |= {*directories, *files}
    return names


def _missing_link(target: str, page: Path) -> list[str]:
    if re.match(r"[a-z]+:", target):
        return []
    path, _, anchor = unquote(target).partition("#")
    linked = page.parent / path if path else page
    if not linked.exists():
        return [f"path {path}"]
    return [f"heading {path}#{anchor}"] if anchor and anchor not in headings(linked) else []


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them from its headings."""
    return {
        re.sub(r"[^\w -]", "", following.content.lower()).replace(" ", "-")
        for token, following in pairwise(_tokens(page))
        if token.type == "heading_open"
    }
