"""Finish an update that moved files: `python3 -m mlplatform.migrate`, after `cruft update` and before its commit.

`cruft update` carries a team's edits into moved files. It brings back at the new path what a team had deleted at the
old one, and leaves behind what a team had added to a folder that moved. This does the rest, from the rename maps in
`migrations/`: deletes again, moves along, rewrites imports, and checks that every import of the platform finds its
module. It needs Python alone, and changes nothing a second time.
"""

import argparse
import ast
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

MIGRATIONS = Path(__file__).with_name("migrations")
CONFLICT = re.compile(r"^(<{7}|>{7}) ", re.MULTILINE)


class MigrationError(Exception):
    """The migration cannot start; the message says why."""


@dataclass(frozen=True)
class Renames:
    """What a release moved. files: new path by old path; folders: where what a team added to a folder goes."""

    files: Mapping[str, str]
    folders: Mapping[str, str]

    @property
    def modules(self) -> dict[str, str]:
        """New name of every Python module and package that moved, by its old name."""
        names = {module_name(old): module_name(new) for old, new in self.files.items() if old.endswith(".py")}
        return {module_name(old): module_name(new) for old, new in self.folders.items()} | names

    def moved(self, path: str) -> str | None:
        """Where a file that is not the template's goes along; None if its folder did not move."""
        for folder in PurePosixPath(path).parents:
            if str(folder) in self.folders:
                return str(PurePosixPath(self.folders[str(folder)]) / PurePosixPath(path).relative_to(folder))
        return None


@dataclass
class Outcome:
    """What a migration did, each as lines for a person; `by_hand` is what it could not do."""

    deleted: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    rewritten: list[str] = field(default_factory=list)
    by_hand: list[str] = field(default_factory=list)


def module_name(path: str) -> str:
    """The dotted name of a Python file or folder."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def read_renames(after: str) -> Renames | None:
    """What all releases after the version `after` moved; None if nothing did."""
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in sorted(MIGRATIONS.glob("*.toml"), key=lambda path: _version(path.stem)):
        if _version(path.stem) > _version(after):
            content = tomllib.loads(path.read_text(encoding="utf-8"))
            for old, new in content["files"].items():
                # A file that moves twice keeps its first path as the key.
                first = next((key for key, place in files.items() if place == old), old)
                files[first] = new
            folders |= content["folders"]
    return Renames(files, folders) if files or folders else None


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))


def migrate(repository: Path, renames: Renames, original: set[str]) -> Outcome:
    """Bring a repository after what moved. original: paths that the template had before the update.

    The state before the update is `HEAD`, the state after it the working tree.
    """
    outcome = Outcome()
    before = set(git(repository, "ls-tree", "-r", "-z", "--name-only", "HEAD").split("\0")) - {""}
    for old, new in renames.files.items():
        # Not at its old path before, so the team deleted or renamed it.
        if old in original and old not in before and (repository / new).is_file():
            (repository / new).unlink()
            outcome.deleted.append(new)
    for old in sorted(before - original):
        target = renames.moved(old)
        if target is None or not (repository / old).is_file():
            continue
        if (repository / target).exists():
            outcome.by_hand.append(f"{old} is to move to {target}, where another file is")
            continue
        (repository / target).parent.mkdir(parents=True, exist_ok=True)
        (repository / old).rename(repository / target)
        outcome.moved.append(f"{old} -> {target}")
    _remove_empty(repository, renames.folders)
    was = {line.rpartition(" -> ")[2]: line.rpartition(" -> ")[0] for line in outcome.moved}
    for path in python_files(repository):
        relative = path.relative_to(repository).as_posix()
        text = path.read_text(encoding="utf-8")
        try:
            new = rewrite_imports(text, renames.modules, was.get(relative, relative))
        except SyntaxError as error:
            reason = "has conflict marks" if CONFLICT.search(text) else f"line {error.lineno}: {error.msg}"
            outcome.by_hand.append(f"{relative} {reason}: its imports were not rewritten")
            continue
        if new != text:
            path.write_text(new, encoding="utf-8")
            outcome.rewritten.append(relative)
    outcome.by_hand += [
        *missing_modules(repository, renames),
        *_mentions(repository, renames),
        *_left_behind(repository, renames),
    ]
    return outcome


def rewrite_imports(text: str, modules: Mapping[str, str], path: str) -> str:
    """A Python file's text with the new name of every module that moved; `path`: where relative imports start from.

    Raises SyntaxError if it is no Python.
    """
    lines = text.splitlines(keepends=True)
    plain: dict[str, str] = {}
    statements = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    for node in sorted(statements, key=lambda node: -node.lineno):
        if isinstance(node, ast.Import):
            new = _rewritten_import(node, modules, plain)
        else:
            new = _rewritten_from(node, modules, path)
        if new is not None:
            first, last = lines[node.lineno - 1], lines[node.end_lineno - 1 if node.end_lineno else node.lineno - 1]
            indent, rest = first[: node.col_offset], last.encode()[node.end_col_offset or 0 :].decode()
            lines[node.lineno - 1 : node.end_lineno] = [("\n" + indent).join(new).join((indent, rest))]
    result = "".join(lines)
    for old, replacement in plain.items():
        result = re.sub(rf"(?<![\w.\"']){re.escape(old)}(?=\.\w)", replacement, result)
    return result


def _rewritten_import(node: ast.Import, modules: Mapping[str, str], plain: dict[str, str]) -> list[str] | None:
    if not any(alias.name in modules for alias in node.names):
        return None
    parts = []
    for alias in node.names:
        new = modules.get(alias.name, alias.name)
        if new != alias.name and not alias.asname:
            plain[alias.name] = new
        parts.append(new + (f" as {alias.asname}" if alias.asname else ""))
    return [f"import {', '.join(parts)}"]


def _rewritten_from(node: ast.ImportFrom, modules: Mapping[str, str], path: str) -> list[str] | None:
    source = node.module or ""
    if node.level:
        package = list(PurePosixPath(path).parent.parts)
        package = package[: len(package) - node.level + 1]
        source = ".".join([*package, *([node.module] if node.module else [])])
    if source not in modules:
        return None
    groups: dict[str, list[str]] = {}
    for alias in node.names:
        home, name = modules[source], alias.name
        if f"{source}.{name}" in modules:
            home, _, name = modules[f"{source}.{name}"].rpartition(".")
        bound = alias.asname or alias.name
        groups.setdefault(home, []).append(name if name == bound else f"{name} as {bound}")
    statements = []
    for home, names in groups.items():
        line = f"from {home} import {', '.join(names)}"
        if node.col_offset + len(line) > 120:
            inner = " " * (node.col_offset + 4)
            line = f"from {home} import (\n" + "".join(f"{inner}{name},\n" for name in names)
            line += " " * node.col_offset + ")"
        statements.append(line)
    return statements


def missing_modules(repository: Path, renames: Renames) -> Iterator[str]:
    """Every import in the repository of a platform module that is not there, or of a package that moved away."""
    gone = {module_name(folder).partition(".")[0] for folder in renames.folders}
    gone -= {folder for folder in gone if (repository / folder).is_dir()}
    for path in python_files(repository):
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in names:
                top = name.partition(".")[0]
                there = repository.joinpath(*name.split("."))
                absent = top == "mlplatform" and not (there.is_dir() or there.with_suffix(".py").is_file())
                if absent or top in gone:
                    place = path.relative_to(repository).as_posix()
                    yield f"{place}:{getattr(node, 'lineno', 1)} imports {name}, which is not there"


def _mentions(repository: Path, renames: Renames) -> Iterator[str]:
    """Lines outside Python that start a module or copy a folder at its old place."""
    tops = "|".join(sorted({re.escape(folder) for folder in renames.folders if "/" not in folder}))
    old = re.compile(rf"-m[\s\",']+({tops})\b|^COPY\s+({tops})\b|(?<![\w/.-])({tops})/[\w/]+\.py\b", re.MULTILINE)
    tracked = git(repository, "ls-files", "-z").split("\0")
    for name in tracked:
        path = repository / name
        if not name or name.endswith((".py", ".txt", ".gz", ".json")) or not path.is_file():
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(lines, 1):
            if not name.startswith(("model/", "mlplatform/", "CHANGELOG")) and old.search(line):
                yield f"{name}:{number} names an old place: {line.strip()[:80]}"


def _left_behind(repository: Path, renames: Renames) -> Iterator[str]:
    """Files that stayed in a folder that moved and are not Python's leftovers."""
    for folder in renames.folders:
        for path in sorted((repository / folder).rglob("*")) if "/" not in folder else ():
            if path.is_file() and "__pycache__" not in path.parts:
                yield f"{path.relative_to(repository).as_posix()} stayed in a folder that moved"


def _remove_empty(repository: Path, folders: Mapping[str, str]) -> None:
    for folder in folders:
        for path in sorted((repository / folder).rglob("__pycache__/*")):
            path.unlink()
        for path in sorted((repository / folder).rglob("*"), reverse=True):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        if (repository / folder).is_dir() and not any((repository / folder).iterdir()):
            (repository / folder).rmdir()


def python_files(repository: Path) -> list[Path]:
    """Every Python file that is tracked, or new and not ignored, in order."""
    names = git(repository, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.py").split("\0")
    return [repository / name for name in sorted(set(names)) if name and (repository / name).is_file()]


def files_of_template(url: str, commit: str) -> set[str]:
    """Paths below the root of a rendered repository that the template had at a commit. Raises MigrationError."""
    with tempfile.TemporaryDirectory() as temporary:
        git(Path(temporary), "clone", "--quiet", "--bare", "--", url, "template.git")
        listed = git(Path(temporary) / "template.git", "ls-tree", "-r", "-z", "--name-only", commit).split("\0")
    folders = {name.partition("/")[0] for name in listed if "cookiecutter." in name.partition("/")[0]}
    return {name.partition("/")[2] for name in listed if name.partition("/")[0] in folders}


def git(directory: Path, *arguments: str) -> str:
    """Output of git in a directory. Raises MigrationError with its last line."""
    # git from the PATH, as in the user's shell.
    command = ["git", "-c", "core.quotePath=false", *arguments]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise MigrationError(f"git {arguments[0]}: {said[-1] if said else f'exit code {done.returncode}'}")
    return done.stdout


def run(repository: Path) -> Outcome:
    """Migrate a repository whose update is not committed yet. Raises MigrationError."""
    try:
        state = json.loads(git(repository, "show", "HEAD:.cruft.json"))
        settings = tomllib.loads(git(repository, "show", "HEAD:service.toml"))
    except (ValueError, MigrationError) as error:
        raise MigrationError(f"the state before the update cannot be read: {error}") from None
    renames = read_renames(settings.get("template", {}).get("version", "0"))
    if renames is None:
        return Outcome()
    return migrate(repository, renames, files_of_template(state["template"], state["commit"]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 something is left to do by hand, 2 the migration cannot start."""
    parser = argparse.ArgumentParser(prog="python3 -m mlplatform.migrate", description=(__doc__ or "").split("\n\n")[0])
    parser.parse_args(arguments)
    try:
        outcome = run(Path.cwd())
    except MigrationError as error:
        print(error, file=sys.stderr)
        return 2
    titles = {
        "deleted": "deleted again",
        "moved": "moved along",
        "rewritten": "imports rewritten",
        "by_hand": "to do by hand",
    }
    for name, title in titles.items():
        lines: list[str] = getattr(outcome, name)
        if lines:
            print(f"{title} ({len(lines)})", *(f"  {line}" for line in lines), sep="\n")
    if not any(getattr(outcome, name) for name in titles):
        print("nothing to migrate")
    return int(bool(outcome.by_hand))


if __name__ == "__main__":
    sys.exit(main())
