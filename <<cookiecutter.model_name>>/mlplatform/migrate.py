"""Finish an update that moved files: `python3 -m mlplatform.migrate`, after `cruft update` and before its commit.

`cruft update` carries a team's edits into moved files. It brings back at the new path what a team had deleted at the
old one, and leaves behind what a team had added to a folder that moved. This does the rest, from the rename maps in
`migrations/`: deletes again, moves along, rewrites imports, and checks that every import of the platform finds its
module. It needs Python and git alone, and a second run changes nothing.
"""

import argparse
import ast
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

MIGRATIONS = Path(__file__).with_name("migrations")
CONFLICT = re.compile(rb"^(<{7}|>{7}) ", re.MULTILINE)
BOM = b"\xef\xbb\xbf"
LINE_LENGTH = 120
# What cookiecutter lets people write instead of a URL.
ABBREVIATIONS = {
    "gh:": "https://github.com/{}.git",
    "gl:": "https://gitlab.com/{}.git",
    "bb:": "https://bitbucket.org/{}",
}


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
        folders = {module_name(old): module_name(new) for old, new in self.folders.items()}
        files = {module_name(old): module_name(new) for old, new in self.files.items() if old.endswith(".py")}
        return folders | files

    @property
    def tops(self) -> set[str]:
        """The folders at the root of a repository that moved."""
        return {folder for folder in self.folders if "/" not in folder}

    def moved(self, path: str) -> str | None:
        """Where a file or folder that is not the template's goes; None if its folder did not move."""
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


@dataclass(frozen=True)
class Edit:
    """A piece of a file's bytes, from `start` to before `end`, and what stands there instead."""

    start: int
    end: int
    text: bytes


def module_name(path: str) -> str:
    """The dotted name of a Python file or folder."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def read_renames(after: str, until: str | None = None) -> Renames | None:
    """What the releases after the version `after` moved, up to and with `until`; None if nothing did."""
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in sorted(MIGRATIONS.glob("*.toml"), key=lambda path: version_key(path.stem)):
        version = version_key(path.stem)
        if version <= version_key(after) or (until is not None and version > version_key(until)):
            continue
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        # A file that moves twice keeps its first path as the key.
        first_paths = {new: old for old, new in files.items()}
        for old, new in content["files"].items():
            files[first_paths.get(old, old)] = new
        folders |= content["folders"]
    return Renames(files, folders) if files or folders else None


def version_key(text: str) -> tuple[int, ...]:
    """A version's numbers, for comparisons."""
    return tuple(int(number) for number in re.findall(r"\d+", text))


def migrate(repository: Path, renames: Renames, original: set[str]) -> Outcome:
    """Bring a repository after what moved. original: paths that the template had before the update.

    The state before the update is `HEAD`, the state after it the working tree.
    """
    outcome = Outcome()
    before = set(listed(repository, "ls-tree", "-r", "--name-only", "HEAD"))
    delete_again(repository, renames, original - before, outcome)
    old_paths = move_skipped(repository, renames, before & original, outcome)
    old_paths |= move_added(repository, renames, before - original, outcome)
    remove_empty(repository, renames)
    modules = renames.modules | modules_of_team(old_paths, renames)
    team = {renames.moved(path) or path for path in before - original}
    for path in python_files(repository):
        rewrite_file(repository, path, modules, old_paths.get(path, path), outcome)
    outcome.by_hand += [
        *conflicts(repository),
        *missing_modules(repository, renames),
        *mentions(repository, renames, modules, team),
        *left_behind(repository, renames),
    ]
    return outcome


def delete_again(repository: Path, renames: Renames, gone: set[str], outcome: Outcome) -> None:
    """Delete at the new path what the team deleted or renamed before."""
    for old in sorted(gone & set(renames.files)):
        new = renames.files[old]
        if (repository / new).is_file():
            (repository / new).unlink()
            outcome.deleted.append(new)


def move_skipped(repository: Path, renames: Renames, kept: set[str], outcome: Outcome) -> dict[str, str]:
    """Move files that updates pass by over the template's, and their names in `[tool.cruft] skip`.

    Returns their old paths by their new ones.
    """
    project = repository / "pyproject.toml"
    try:
        text = project.read_bytes().decode()
        skip = tomllib.loads(text.replace("\r\n", "\n")).get("tool", {}).get("cruft", {}).get("skip", [])
    except (OSError, ValueError):
        # With conflict marks it cannot be read; `conflicts` names it.
        return {}
    old_paths = {}
    for old in sorted(kept & set(renames.files)):
        skipped = any(PurePosixPath(old).is_relative_to(entry) for entry in skip)
        if skipped and os.path.lexists(repository / old):
            new = renames.files[old]
            (repository / new).parent.mkdir(parents=True, exist_ok=True)
            (repository / old).replace(repository / new)
            outcome.moved.append(f"{old} -> {new}")
            old_paths[new] = old
    for entry in skip:
        new_entry = renames.files.get(entry) or renames.folders.get(entry)
        if new_entry and old_paths:
            text = re.sub(rf"([\"']){re.escape(entry)}\1", rf"\g<1>{new_entry}\g<1>", text)
            project.write_bytes(text.encode())
            outcome.rewritten.append(f"pyproject.toml: skip {new_entry} instead of {entry}")
    return old_paths


def move_added(repository: Path, renames: Renames, added: set[str], outcome: Outcome) -> dict[str, str]:
    """Move what the team added to folders that moved; returns old paths by new ones."""
    old_paths = {}
    for old in sorted(added):
        new = renames.moved(old)
        if new is None or not os.path.lexists(repository / old):
            continue
        if os.path.lexists(repository / new):
            outcome.by_hand.append(f"{old} is to move to {new}, where another file is")
            continue
        (repository / new).parent.mkdir(parents=True, exist_ok=True)
        (repository / old).rename(repository / new)
        outcome.moved.append(f"{old} -> {new}")
        old_paths[new] = old
    return old_paths


def remove_empty(repository: Path, renames: Renames) -> None:
    """Remove folders that moved and hold nothing but what Python compiled."""
    for top in renames.tops:
        for folder, _, _ in os.walk(repository / top, topdown=False):
            if Path(folder).name == "__pycache__":
                for compiled in Path(folder).iterdir():
                    compiled.unlink()
            if not any(Path(folder).iterdir()):
                Path(folder).rmdir()


def modules_of_team(old_paths: Mapping[str, str], renames: Renames) -> dict[str, str]:
    """New name of every module and package of the team's that moved along, by its old name."""
    modules = {}
    for new, old in old_paths.items():
        for folder in PurePosixPath(old).parents:
            target = renames.moved(str(folder))
            if target is not None and str(folder) not in renames.folders:
                modules[module_name(str(folder))] = module_name(target)
        if old.endswith(".py"):
            modules[module_name(old)] = module_name(new)
    return modules


def rewrite_file(repository: Path, path: str, modules: Mapping[str, str], old_path: str, outcome: Outcome) -> None:
    """Rewrite the imports of one Python file, if it has any that moved."""
    content = (repository / path).read_bytes()
    try:
        new = rewrite_imports(content, modules, old_path, path)
    except (SyntaxError, ValueError) as error:
        if not CONFLICT.search(content):
            outcome.by_hand.append(f"{path} is no Python ({error}): its imports were not rewritten")
        return
    if new != content:
        (repository / path).write_bytes(new)
        outcome.rewritten.append(path)


def rewrite_imports(content: bytes, modules: Mapping[str, str], old_path: str, path: str) -> bytes:
    """A Python file with the new name of every module that moved.

    old_path, path: where the file was and is, from which its relative imports start.
    Raises SyntaxError if it is no Python, ValueError if it is not UTF-8.
    """
    bom = BOM if content.startswith(BOM) else b""
    content = content.removeprefix(BOM)
    content.decode()
    tree = ast.parse(content)
    offsets = line_offsets(content)
    edits: list[Edit] = []
    bound: set[str] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        start, end = span(node, offsets)
        statement = content[start:end].decode()
        if isinstance(node, ast.Import):
            new = rewritten_import(node, statement, modules)
            bound |= {
                alias.name.partition(".")[0] for alias in node.names if alias.name in modules and not alias.asname
            }
        else:
            new = rewritten_from(node, statement, modules, old_path, path)
        if new is not None:
            edits.append(Edit(start, end, layout(new, statement, content, start, end).encode()))
    edits += rewritten_names(tree, bound, modules, offsets)
    for edit in sorted(edits, key=lambda edit: -edit.start):
        content = content[: edit.start] + edit.text + content[edit.end :]
    return bom + content


def line_offsets(content: bytes) -> list[int]:
    """Where each line starts. Lines end as Python's do: with LF, CR LF or CR."""
    return [0, *(match.end() for match in re.finditer(rb"\r\n|\n|\r", content))]


def span(node: ast.stmt | ast.expr, offsets: Sequence[int]) -> tuple[int, int]:
    """Start and end of a node in its file's bytes."""
    end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or node.col_offset
    return offsets[node.lineno - 1] + node.col_offset, offsets[end_line - 1] + end_column


def layout(statements: Sequence[str], old: str, content: bytes, start: int, end: int) -> str:
    """Statements as they stand in place of one: a line each, or after semicolons where it shared its line."""
    if len(statements) == 1:
        return statements[0]
    line_start = max(content.rfind(b"\n", 0, start), content.rfind(b"\r", 0, start)) + 1
    indent = content[line_start:start].decode()
    if indent.strip() or content[end:].lstrip(b" \t")[:1] == b";":
        return "; ".join(statements)
    newline = "\r\n" if b"\r\n" in content else "\n"
    comments = re.findall(r"#[^\r\n]*", old)
    return (newline + indent).join([*comments, *statements])


def rewritten_import(node: ast.Import, statement: str, modules: Mapping[str, str]) -> list[str] | None:
    """`import a.b, c as d` with new names; None if nothing of it moved."""
    if not any(alias.name in modules for alias in node.names):
        return None
    new = statement
    for alias in node.names:
        if alias.name in modules:
            new = re.sub(rf"(?<![\w.]){re.escape(alias.name)}(?![\w.])", modules[alias.name], new, count=1)
    return [new]


def rewritten_from(
    node: ast.ImportFrom, statement: str, modules: Mapping[str, str], old_path: str, path: str
) -> list[str] | None:
    """`from a import b` with new names, one statement for each module; None if nothing of it moved."""
    source = absolute_source(node, old_path)
    homes: dict[str, list[str]] = {}
    for alias in node.names:
        full = modules.get(f"{source}.{alias.name}")
        home, _, name = full.rpartition(".") if full else (modules.get(source, source), ".", alias.name)
        bound = alias.asname or alias.name
        homes.setdefault(home, []).append(name if name == bound else f"{name} as {bound}")
    if list(homes) == [absolute_source(node, path)] and source not in modules:
        return None
    written = [f"{alias.name} as {alias.asname}" if alias.asname else alias.name for alias in node.names]
    if list(homes.values()) == [written]:
        (home,) = homes
        if home == absolute_source(node, path):
            return None
        return [re.sub(r"^from[\s\\]*[.\w\s\\]*?[\s\\]*\bimport\b", f"from {home} import", statement, count=1)]
    return [from_statement(home, names) for home, names in homes.items()]


def from_statement(home: str, names: Sequence[str]) -> str:
    """One `from` statement, in parentheses if it is long."""
    line = f"from {home} import {', '.join(names)}"
    return line if len(line) <= LINE_LENGTH else f"from {home} import ({', '.join(names)})"


def absolute_source(node: ast.ImportFrom, path: str) -> str:
    """The module that a `from` statement names, as it is read in a file at `path`."""
    if not node.level:
        return node.module or ""
    package = PurePosixPath(path).parent.parts
    package = package[: len(package) - node.level + 1]
    return ".".join([*package, *([node.module] if node.module else [])])


def rewritten_names(
    tree: ast.Module, bound: set[str], modules: Mapping[str, str], offsets: Sequence[int]
) -> Iterator[Edit]:
    """Uses of modules by their whole name, `a.b` after `import a.b`; bound: first parts of the names imported so."""
    inside: set[ast.AST] = set()
    for node in ast.walk(tree):
        if node in inside or not isinstance(node, ast.Name | ast.Attribute):
            continue
        name = dotted(node)
        if name is not None and name.partition(".")[0] in bound and name in modules:
            inside |= set(ast.walk(node))
            start, end = span(node, offsets)
            yield Edit(start, end, modules[name].encode())


def dotted(node: ast.expr) -> str | None:
    """The dotted name that an expression is; None if it is anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return before and f"{before}.{node.attr}"
    return None


def conflicts(repository: Path) -> Iterator[str]:
    """Every file with conflict marks, and every file of rejected changes."""
    for path in present_files(repository):
        if path.endswith(".rej"):
            yield f"{path} holds changes that were rejected"
        elif not (repository / path).is_symlink() and CONFLICT.search((repository / path).read_bytes()):
            yield f"{path} has conflict marks"


def missing_modules(repository: Path, renames: Renames | None = None) -> Iterator[str]:
    """Every import in the repository of a platform module that is not there, or of a package that moved away."""
    gone = {top for top in renames.tops if not (repository / top).is_dir()} if renames else set()
    for path in python_files(repository):
        try:
            tree = ast.parse((repository / path).read_bytes())
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            for name in imported_modules(repository, node, path):
                top = name.partition(".")[0]
                if top in gone or (top == "mlplatform" and not module_exists(repository, name)):
                    yield f"{path}:{getattr(node, 'lineno', 1)} imports {name}, which does not exist"


def imported_modules(repository: Path, node: ast.AST, path: str) -> Iterator[str]:
    """The modules that a statement imports; of names in a package, those that its `__init__.py` does not name."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        source = absolute_source(node, path)
        if not source:
            return
        yield source
        initial = repository.joinpath(*source.split("."), "__init__.py")
        if initial.is_file():
            text = initial.read_text(encoding="utf-8", errors="replace")
            for alias in node.names:
                if alias.name != "*" and not re.search(rf"\b{re.escape(alias.name)}\b", text):
                    yield f"{source}.{alias.name}"


def module_exists(repository: Path, name: str) -> bool:
    """Whether the repository holds a module or a package of this name."""
    place = repository.joinpath(*name.split("."))
    return place.is_dir() or place.with_name(f"{place.name}.py").is_file()


def mentions(repository: Path, renames: Renames, modules: Mapping[str, str], team: set[str]) -> Iterator[str]:
    """Lines that name an old place where no import is rewritten: in other files than Python, and in strings.

    team: paths of the files that the team added.
    """
    tops = "|".join(sorted(map(re.escape, renames.tops)))
    old_place = re.compile(
        rf"-m[\s\",']+({tops})\b"
        rf"|^\s*COPY\s.*(?<![\w/.-])({tops})(/|\s)"
        rf"|(?<![\w/.-])({tops})/[\w./-]+\.\w"
        rf"|^[\s\"']*(from|import)\s+({tops})\b"
    )
    strings = "|".join(sorted((re.escape(name) for name in modules if "." in name), key=len, reverse=True))
    old_string = re.compile(rf"[\"']({strings})[\w.]*[\"']")
    for path in present_files(repository):
        if path.startswith(("mlplatform/", "CHANGELOG")) and path not in team:
            continue
        if path.endswith((".txt", ".gz", ".rej", ".lock")):
            continue
        pattern = old_string if path.endswith(".py") else old_place
        for number, line in enumerate(lines_of(repository / path), 1):
            if pattern.search(line) and (not path.endswith(".py") or path in team or path.startswith("model/")):
                yield f"{path}:{number} names an old place: {line.strip()[:80]}"


def lines_of(path: Path) -> list[str]:
    """A file's lines; none if it is no text."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (UnicodeDecodeError, OSError):
        return []


def left_behind(repository: Path, renames: Renames) -> Iterator[str]:
    """Files that stayed in a folder that moved, with what is to do about each."""
    for path in present_files(repository):
        if path.partition("/")[0] not in renames.tops or "/" not in path or path.endswith(".rej"):
            continue
        new = renames.files.get(path)
        if new is None:
            yield f"{path} stayed in a folder that moved"
        else:
            yield f"{path} was changed here and is {new} in the template: bring the change there and delete it"


def present_files(repository: Path) -> list[str]:
    """Every file that is tracked, or new and not ignored, in order."""
    names = listed(repository, "ls-files", "--cached", "--others", "--exclude-standard")
    return [
        name for name in sorted(set(names)) if os.path.lexists(repository / name) and not (repository / name).is_dir()
    ]


def python_files(repository: Path) -> list[str]:
    """Every Python file that is tracked, or new and not ignored, in order; no links."""
    return [name for name in present_files(repository) if name.endswith(".py") and not (repository / name).is_symlink()]


def listed(repository: Path, command: str, *arguments: str) -> list[str]:
    """The paths that a git command lists."""
    return [name for name in git(repository, command, "-z", *arguments).split("\0") if name]


def files_of_template(url: str, commit: str, directory: str = "") -> set[str]:
    """Paths below the root of a rendered repository that the template had at a commit. Raises MigrationError."""
    for short, long in ABBREVIATIONS.items():
        if url.startswith(short):
            url = long.format(url.removeprefix(short))
    with tempfile.TemporaryDirectory() as temporary:
        git(Path(temporary), "clone", "--quiet", "--bare", "--", url, "template.git")
        names = listed(Path(temporary) / "template.git", "ls-tree", "-r", "--name-only", commit)
    start = f"{directory.strip('/')}/" if directory.strip("/") else ""
    names = [name.removeprefix(start) for name in names if name.startswith(start)]
    return {name.partition("/")[2] for name in names if "cookiecutter." in name.partition("/")[0] and "/" in name}


def git(directory: Path, *arguments: str) -> str:
    """Output of git in a directory. Raises MigrationError with its last line."""
    # git from the PATH, as in the user's shell.
    command = ["git", "-c", "core.quotePath=false", *arguments]
    done = subprocess.run(command, cwd=directory, capture_output=True)  # noqa: S603
    if done.returncode:
        error = done.stderr.decode(errors="replace").strip().splitlines()
        raise MigrationError(f"git {arguments[0]}: {error[-1] if error else f'exit code {done.returncode}'}")
    return done.stdout.decode(errors="surrogateescape")


def run(repository: Path) -> Outcome:
    """Migrate a repository whose update is not committed yet. Raises MigrationError."""
    try:
        state = json.loads(git(repository, "show", "HEAD:.cruft.json"))
        settings = tomllib.loads(git(repository, "show", "HEAD:service.toml"))
        url, commit = state["template"], state["commit"]
    except (ValueError, KeyError, MigrationError) as error:
        raise MigrationError(f"the state before the update cannot be read: {error}") from None
    after = settings.get("template", {}).get("version", "0")
    renames = read_renames(after, updated_version(repository))
    if renames is None:
        return Outcome()
    return migrate(repository, renames, files_of_template(url, commit, state.get("directory") or ""))


def updated_version(repository: Path) -> str | None:
    """The version that the update brought; None if service.toml, in conflict perhaps, does not tell."""
    try:
        settings = tomllib.loads((repository / "service.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    version: str | None = settings.get("template", {}).get("version")
    return version


def report(outcome: Outcome) -> Iterator[str]:
    """The lines that tell a person what happened."""
    for title, lines in (
        ("deleted again", outcome.deleted),
        ("moved along", outcome.moved),
        ("imports rewritten", outcome.rewritten),
        ("to do by hand", outcome.by_hand),
    ):
        if lines:
            yield f"{title} ({len(lines)})"
            yield from (f"  {line}" for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 something is left to do by hand, 2 the migration cannot start."""
    parser = argparse.ArgumentParser(prog="python3 -m mlplatform.migrate", description=(__doc__ or "").split("\n\n")[0])
    parser.parse_args(arguments)
    try:
        outcome = run(Path.cwd())
    except MigrationError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(report(outcome)) or "nothing to migrate")
    return int(bool(outcome.by_hand))


if __name__ == "__main__":
    sys.exit(main())
