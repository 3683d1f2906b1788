"""Brings a release of this template to many repositories: one branch in each, nothing merged, nothing lost.

`fleet.py LIST`: a file with one repository a line (URL or directory, `#` starts a comment), each made with cruft. Every
one is cloned into a folder of its own and updated there, on a new branch. A release that carries a migration is a stop
on the way: the clone is updated to it, migrated and committed before the next one. The repositories themselves are not
touched before `--push`, and then only by the new branch. A second run resumes with the clones that are there: one that
failed is tried again, one that was merged by hand and committed is taken further, and a newer release is brought.
"""

import argparse
import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from cookiecutter.config import BUILTIN_ABBREVIATIONS
from cookiecutter.repository import expand_abbreviations

UPDATED, CURRENT, PUSHED, BY_HAND, FAILED = "updated", "current", "pushed", "by hand", "failed"
# What a clone's state is while this program works in it; found by a later run, it was killed.
WORKING = "working"
DONE, SOME_BY_HAND, UNUSABLE, SOME_FAILED = 0, 1, 2, 3

CONFLICT = re.compile(rb"^(<{7}|>{7}) ", re.MULTILINE)
CONFLICTED = "has conflict marks"
MIGRATIONS = re.compile(r"(.*)/mlplatform/migrations/([\d.]+)\.toml")
# Characters of a repository's name and of its note, where no terminal limits a line.
WIDTH, NOTE = 60, 80
CLONING = threading.Lock()


@dataclass(frozen=True)
class Outcome:
    """What became of one repository. note: one line; details: all that a person should know, a line each."""

    repository: str
    state: str
    note: str
    details: Sequence[str] = ()


class FleetError(Exception):
    """One repository cannot be updated; the message says why, in its first line by itself."""


@dataclass
class Merge:
    """What one update did that the files do not show; to_do: what keeps it from being committed."""

    notes: list[str] = field(default_factory=list)
    to_do: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Clone:
    """One repository's clone, and the file beside it that keeps its state."""

    repository: str
    folder: Path
    branch: str

    @property
    def state_file(self) -> Path:
        """Where the state is kept."""
        return self.folder.with_name(f"{self.folder.name}.json")

    def state(self) -> dict[str, Any]:
        """What the last run wrote down; nothing if there was none."""
        try:
            content = json.loads(self.state_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def remember(self, state: str, note: str = "", details: Sequence[str] = ()) -> None:
        """Write the state down, whole or not at all."""
        content = {"state": state, "note": note, "details": list(details)}
        if (self.folder / ".git").exists():
            content["head"] = self.git("rev-parse", "HEAD").strip()
        part = self.state_file.with_suffix(".part")
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        part.replace(self.state_file)

    def git(self, *arguments: str) -> str:
        """Output of git in the clone; FleetError if it fails."""
        return run(self.folder, "git", "-c", "core.quotePath=false", *arguments)

    def listed(self, *arguments: str) -> list[str]:
        """What a git command lists with `-z`."""
        return [name for name in self.git(*arguments).split("\0") if name]

    def cruft(self) -> dict[str, Any]:
        """The content of `.cruft.json`."""
        try:
            content: dict[str, Any] = json.loads((self.folder / ".cruft.json").read_text(encoding="utf-8"))
            if isinstance(content["template"], str) and isinstance(content["commit"], str):
                return content
        except OSError:
            raise FleetError("no .cruft.json; `cruft link` ties a repository to its template") from None
        except (ValueError, KeyError, TypeError):
            pass
        raise FleetError(".cruft.json names no template and commit")


def run(directory: Path, *command: str, text: str | None = None) -> str:
    """Output of a command; FleetError with its last line, and then all it wrote, if it fails."""
    result = subprocess.run(
        command, cwd=directory, input=text, capture_output=True, text=True, encoding="utf-8", errors="surrogateescape"
    )
    if result.returncode:
        output = (result.stderr or result.stdout).strip()
        last = output.splitlines()[-1] if output else f"exit code {result.returncode}"
        name = " ".join(part for part in command if not part.startswith("-") and "=" not in part).split()[:2]
        raise FleetError(f"{' '.join([Path(name[0]).name, *name[1:]])}: {last}\n{output}")
    return result.stdout


def read_list(path: Path) -> list[str]:
    """The repositories that a list names; FleetError if it names none, or two whose folders would be the same."""
    try:
        lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise FleetError(f"{path}: {error.strerror}") from None
    repositories = [line for line in lines if line]
    names = [folder_name(repository) for repository in repositories]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise FleetError(f"{path}: more than one repository is called {', '.join(twice)}")
    if not repositories:
        raise FleetError(f"{path}: names no repository; expected one URL or directory a line")
    return repositories


def folder_name(repository: str) -> str:
    """The name a clone gets: the last part of the URL."""
    return re.split(r"[/:]", repository.rstrip("/").removesuffix(".git"))[-1]


def template_clone(url: str, work: Path) -> Path:
    """A clone of a template, made or brought up to date once in a run."""
    url = expand_abbreviations(url, BUILTIN_ABBREVIATIONS)
    folder = work / ".templates" / hashlib.sha256(url.encode()).hexdigest()[:16]
    with CLONING:
        if folder in FETCHED:
            return folder
        if folder.exists():
            run(folder, "git", "fetch", "--quiet", "--prune", "origin")
        else:
            part = folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            part.parent.mkdir(parents=True, exist_ok=True)
            run(work, "git", "clone", "--quiet", "--mirror", "--", url, str(part))
            part.rename(folder)
        FETCHED.add(folder)
    return folder


FETCHED: set[Path] = set()


def commit_of(template: Path, revision: str | None) -> str:
    """The commit that a revision of the template names; without one, its newest."""
    try:
        return run(template, "git", "rev-parse", "--verify", "--quiet", f"{revision or 'HEAD'}^{{commit}}").strip()
    except FleetError:
        raise FleetError(f"the template has no revision {revision or 'HEAD'}") from None


def stops(template: Path, old: str, new: str) -> list[str]:
    """The commits to update to on the way from `old` to `new`, `new` the last: every release with a migration."""
    on_the_way = run(template, "git", "rev-list", "--reverse", "--topo-order", f"{old}..{new}").split()
    if not on_the_way:
        return [new] if old != new else []
    added = run(
        *(
            template,
            "git",
            "-c",
            "core.quotePath=false",
            "diff",
            "--no-renames",
            "--name-only",
            "--diff-filter=A",
            "-z",
        ),
        *(old, new),
    ).split("\0")
    versions = [match[2] for name in added if (match := MIGRATIONS.fullmatch(name))]
    commits = {commit for version in versions if (commit := release_commit(template, version, new))}
    return [commit for commit in on_the_way if commit in commits and commit != new] + [new]


def release_commit(template: Path, version: str, new: str) -> str | None:
    """The commit of a release: its tag's, or the one that wrote its version into cookiecutter.json."""
    try:
        return run(template, "git", "rev-parse", "--verify", "--quiet", f"v{version}^{{commit}}").strip()
    except FleetError:
        line = f'"__template_version": "{version}"'
        command = ("git", "log", "--reverse", "--format=%H", f"-S{line}", new, "--", "*cookiecutter.json")
        return next(iter(run(template, *command).split()), None)


def update(clone: Clone, work: Path, revision: str | None) -> Outcome:
    """Bring one repository as far as it goes without a person. FleetError if that is not possible."""
    put_aside_notes = prepare(clone)
    if problems := unfinished(clone):
        return Outcome(clone.repository, BY_HAND, summary(problems), [*problems, *put_aside_notes])
    known = clone.state()
    notes = list(known.get("details", ())) if known.get("state") in (UPDATED, PUSHED, WORKING) else []
    notes += put_aside_notes
    cruft = clone.cruft()
    template = template_clone(cruft["template"], work)
    target = commit_of(template, revision)
    for commit in stops(template, commit_of(template, cruft["commit"]), target):
        clone.remember(WORKING, details=notes)
        before = clone.cruft()["commit"]
        merge = update_to(clone, template, commit, target)
        if merge.to_do:
            details = [*notes, *merge.to_do, *merge.notes]
            return Outcome(clone.repository, BY_HAND, summary(merge.to_do), details)
        commit_update(clone, template, before, commit, merge.notes)
        notes += [note for note in merge.notes if note not in notes]
    notes += [line for line in unlocked(clone) if line not in notes]
    changed = clone.listed("diff", "--name-only", "-z", "origin/HEAD...HEAD")
    if not changed:
        return Outcome(clone.repository, CURRENT, target[:12], notes)
    also = f", {len(notes)} to know" if notes else ""
    return Outcome(clone.repository, UPDATED, f"{len(changed)} files{also}", notes)


def summary(problems: Sequence[str]) -> str:
    """Many lines as one."""
    return "; ".join(problems)


def prepare(clone: Clone) -> list[str]:
    """Have the clone on its branch; what a run that was killed or failed left in it is put aside with `git stash`.

    Returns a note that says where that is.
    """
    if not clone.folder.exists():
        part = clone.folder.with_name(f".{clone.folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        run(part.parent, "git", "clone", "--quiet", "--", clone.repository, str(part))
        part.rename(clone.folder)
    try:
        clone.git("var", "GIT_COMMITTER_IDENT")
        clone.git("var", "GIT_AUTHOR_IDENT")
    except FleetError:
        raise FleetError('git knows no name to commit by: git config --global user.name "..." and user.email') from None
    notes = put_aside(clone)
    if clone.git("branch", "--show-current").strip() != clone.branch:
        known = clone.git("branch", "--list", clone.branch).strip()
        clone.git("switch", "--quiet", *([] if known else ["--create"]), clone.branch)
    clone.git("fetch", "--quiet", "origin")
    if not clone.git("status", "--porcelain") and is_ancestor(clone, "HEAD", "origin/HEAD"):
        # Merged there, or never changed here: start from what the team has now.
        clone.git("reset", "--quiet", "--hard", "origin/HEAD")
    return notes


def put_aside(clone: Clone) -> list[str]:
    """Keep in `git stash` what a run left that did not end: a half-merged update, and what a person changed since.

    Returns a note that says where that is; nothing if there was nothing.
    """
    if clone.state().get("state") != WORKING or not clone.git("status", "--porcelain"):
        return []
    clone.git("add", "--all")
    clone.git("stash", "push", "--quiet", "--message", "left by an update that did not end")
    stash = clone.git("rev-parse", "--short", "refs/stash").strip()
    return [f"an update that did not end left changes in {clone.folder}; git stash keeps them: {stash}"]


def is_ancestor(clone: Clone, old: str, new: str) -> bool:
    """Whether the commit `new` holds the commit `old`."""
    command = ["git", "merge-base", "--is-ancestor", old, new]
    return subprocess.run(command, cwd=clone.folder, capture_output=True).returncode == 0


def update_to(clone: Clone, template: Path, commit: str, target: str) -> Merge:
    """Merge the template's changes up to a commit into the working tree, file by file, and migrate.

    target: the commit whose `mlplatform.migrate` is run, the newest on the way.
    """
    before = clone.cruft()
    with tempfile.TemporaryDirectory() as temporary:
        old = render(template, before, before["commit"], Path(temporary, "old"))
        new = render(template, before, commit, Path(temporary, "new"))
        after = json.loads((new / ".cruft.json").read_text(encoding="utf-8"))
        merge = Merge(notes=drop_skipped(clone, old, new, before.get("skip") or []))
        three_way(clone, old, new, merge)
    context = after["context"]
    context["cookiecutter"]["_template"] = before["template"]
    state = {**before, "commit": commit, "context": context}
    content = json.dumps(state, indent=2, ensure_ascii=False, separators=(",", ": ")) + "\n"
    (clone.folder / ".cruft.json").write_text(content, encoding="utf-8")
    migrate(clone, template, target, merge)
    named = {line.partition(" ")[0] for line in merge.to_do}
    merge.to_do += [
        problem
        for problem in problems_in_files(clone)
        if problem not in merge.to_do and not (problem.endswith(CONFLICTED) and problem.partition(" ")[0] in named)
    ]
    return merge


def render(template: Path, cruft: Mapping[str, Any], commit: str, output: Path) -> Path:
    """A repository as the template makes it at a commit, with the answers in a `.cruft.json`."""
    answers = {name: value for name, value in cruft["context"]["cookiecutter"].items() if not name.startswith("_")}
    output.mkdir()
    run(
        *(output, sys.executable, "-m", "cruft", "create", str(template.resolve()), "--no-input", "--default-config"),
        *("--checkout", commit, "--extra-context", json.dumps(answers)),
        *(["--directory", cruft["directory"]] if cruft.get("directory") else []),
    )
    (repository,) = output.iterdir()
    return repository


def drop_skipped(clone: Clone, old: Path, new: Path, skip: Sequence[str]) -> list[str]:
    """Take what updates pass by out of both renderings; returns a note for each such file that changed."""
    try:
        project = tomllib.loads((clone.folder / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        project = {}
    skip = [*skip, *project.get("tool", {}).get("cruft", {}).get("skip", [])]
    notes = []
    for path in sorted(files_of(old) | files_of(new)):
        if any(PurePosixPath(path).is_relative_to(entry) or PurePosixPath(path).match(entry) for entry in skip):
            if content(old / path) != content(new / path):
                notes.append(f"{path} changed in the template and is skipped here")
            for rendering in (old, new):
                (rendering / path).unlink(missing_ok=True)
    return notes


def files_of(folder: Path) -> set[str]:
    """Paths of the files of a rendering, without cruft's."""
    paths = {Path(place, name).relative_to(folder).as_posix() for place, _, names in os.walk(folder) for name in names}
    return paths - {".cruft.json"}


def content(path: Path) -> bytes | None:
    """A file's bytes; None if there is no such file."""
    return path.read_bytes() if path.is_file() else None


def three_way(clone: Clone, old: Path, new: Path, merge: Merge) -> None:
    """Merge the difference of two renderings into the clone as git merges branches: each file by itself."""
    base = commit_tree(clone, old)
    theirs = commit_tree(clone, new, base)
    command = (
        *("git", "-c", "merge.directoryRenames=false", "-c", "merge.renames=true", "-c", "merge.renameLimit=10000"),
        *("-c", "merge.conflictStyle=merge", "-c", "rerere.enabled=false"),
        *("cherry-pick", "--no-commit", "--allow-empty", theirs),
    )
    result = subprocess.run(command, cwd=clone.folder, capture_output=True, text=True, errors="surrogateescape")
    # 1 with unmerged files is a conflict. Everything else but 0 is a merge that did not happen.
    conflict = result.returncode == 1 and clone.listed("ls-files", "--unmerged", "-z")
    if result.returncode and not conflict:
        last = (result.stderr or result.stdout).strip().splitlines()[-1:] or [f"exit code {result.returncode}"]
        raise FleetError(f"git cherry-pick: {last[0]}\n{result.stdout}{result.stderr}")
    settle(clone, merge)
    # Nothing of ours is left of the pick but files.
    for leftover in ("CHERRY_PICK_HEAD", "MERGE_MSG", "AUTO_MERGE"):
        (clone.folder / ".git" / leftover).unlink(missing_ok=True)


def commit_tree(clone: Clone, rendering: Path, parent: str | None = None) -> str:
    """A commit in the clone's store that holds a rendering; on no branch."""
    index = clone.folder / ".git" / "rendering.index"
    index.unlink(missing_ok=True)
    git = (
        "git",
        f"--git-dir={clone.folder.resolve() / '.git'}",
        "-c",
        "core.excludesFile=",
        "-c",
        "core.safecrlf=false",
    )
    environment = ("env", f"GIT_INDEX_FILE={index.resolve()}")
    shutil.rmtree(rendering / ".git", ignore_errors=True)
    (rendering / ".cruft.json").unlink(missing_ok=True)
    run(rendering, *environment, *git, f"--work-tree={rendering}", "add", "--all", "--force", ".")
    tree = run(rendering, *environment, *git, "write-tree").strip()
    index.unlink()
    parents = ["-p", parent] if parent else []
    return run(rendering, *git, "commit-tree", tree, *parents, "-m", "The template").strip()


def settle(clone: Clone, merge: Merge) -> None:
    """Settle conflicts of whole files in the team's favour, with a note; files that both changed are to do by hand.

    Of a file that one side deleted or renamed git keeps the other's; what the team deleted stays deleted.
    """
    stages: dict[str, set[str]] = {}
    for entry in clone.listed("ls-files", "--unmerged", "-z"):
        description, _, path = entry.partition("\t")
        stages.setdefault(path, set()).add(description.split()[2])
    for path, present in stages.items():
        if present >= {"2", "3"}:
            merge.to_do.append(f"{path} was changed here and in the template")
        elif present == {"1", "3"}:
            (clone.folder / path).unlink(missing_ok=True)
            clone.git("rm", "--quiet", "--cached", "--", path)
            merge.notes.append(f"{path} was deleted or renamed here and changed in the template")
        elif present == {"1", "2"}:
            clone.git("add", "--force", "--", path)
            merge.notes.append(f"{path} was changed here and removed from the template")
        elif present == {"1"}:
            clone.git("rm", "--quiet", "--cached", "--", path)
            merge.notes.append(f"{path} was renamed here and in the template")
        elif os.path.lexists(clone.folder / path):
            clone.git("add", "--force", "--", path)
        else:
            merge.to_do.append(f"{path} is on one side only, and git left no file")


def migrate(clone: Clone, template: Path, target: str, merge: Merge) -> None:
    """Run the migration that the template has at a commit, in the clone."""
    names = run(template, "git", "ls-tree", "-r", "-z", "--name-only", target).split("\0")
    maps = [name for name in names if MIGRATIONS.fullmatch(name)]
    if not maps:
        return
    program = str(PurePosixPath(maps[0]).parent.parent / "migrate.py")
    with tempfile.TemporaryDirectory() as temporary:
        Path(temporary, "migrations").mkdir()
        for name in (program, *maps):
            place = Path(temporary) / PurePosixPath(name).relative_to(PurePosixPath(program).parent)
            place.write_text(run(template, "git", "show", f"{target}:{name}"), encoding="utf-8")
        command = [sys.executable, "-B", str(Path(temporary) / "migrate.py")]
        result = subprocess.run(command, cwd=clone.folder, capture_output=True, text=True, errors="surrogateescape")
    if result.returncode not in (0, 1) or "Traceback" in result.stderr:
        last = (result.stderr or result.stdout).strip().splitlines()[-1:]
        raise FleetError(f"mlplatform.migrate: {' '.join(last)}\n{result.stdout}{result.stderr}")
    title = ""
    for line in result.stdout.splitlines():
        if not line.startswith("  "):
            title = line.partition(" (")[0]
        elif title == "to do by hand":
            merge.to_do.append(line.strip())
        else:
            merge.notes.append(f"{title}: {line.strip()}")


def unfinished(clone: Clone) -> list[str]:
    """What keeps a clone from being taken further: nothing of it is fleet's to change."""
    problems = problems_in_files(clone)
    if not problems and clone.git("status", "--porcelain"):
        problems = list(clone.state().get("details", ())) if clone.state().get("state") == BY_HAND else []
        problems = [f"not committed: {clone.folder}", *problems]
    return problems


def problems_in_files(clone: Clone) -> list[str]:
    """Conflict marks, rejected changes, Python that is none, imports without a module, settings that cannot be read."""
    problems = []
    names = clone.listed("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    names += [path.relative_to(clone.folder).as_posix() for path in clone.folder.rglob("*.rej")]
    for name in sorted(set(names)):
        path = clone.folder / name
        if not path.is_file() or path.is_symlink():
            continue
        if name.endswith(".rej"):
            problems.append(f"{name} holds changes that were rejected")
        elif CONFLICT.search(path.read_bytes()):
            problems.append(f"{name} {CONFLICTED}")
        elif name.endswith(".py"):
            problems += problem_of_python(path, name)
        elif name == "service.toml" or name == "pyproject.toml":
            problems += problem_of_toml(path, name)
    # The check of imports is the repository's own code, which has to be whole.
    return problems or missing_modules(clone)


def problem_of_python(path: Path, name: str) -> Iterator[str]:
    """Why Python cannot read a file, if it cannot."""
    try:
        ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        yield f"{name} is no Python: {error}"


def problem_of_toml(path: Path, name: str) -> Iterator[str]:
    """Why a file of settings cannot be read, if it cannot."""
    try:
        tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        yield f"{name} cannot be read: {error}"


def missing_modules(clone: Clone) -> list[str]:
    """Imports of the platform that find no module, by the repository's own `mlplatform.migrate`."""
    if not (clone.folder / "mlplatform" / "migrate.py").is_file():
        return []
    program = (
        "import sys; from pathlib import Path; from mlplatform import migrate\n"
        "print(*migrate.missing_modules(Path.cwd(), migrate.read_renames('0')), sep='\\n')"
    )
    return [line for line in run(clone.folder, sys.executable, "-B", "-c", program).splitlines() if line]


def unlocked(clone: Clone) -> Iterator[str]:
    """Packages that a file in requirements/ names and its lock does not hold, as after a team's own edit of either."""
    for path in sorted((clone.folder / "requirements").glob("*.in")):
        lock = path.with_name(f"{path.stem.removesuffix('.team')}.txt")
        try:
            wanted = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
            pinned = re.findall(r"^([\w.-]+)(?:\[.*\])?==", lock.read_text(encoding="utf-8"), re.MULTILINE)
        except (OSError, UnicodeError):
            continue
        locked = {package(name) for name in pinned}
        names = [found[0] for line in wanted if (found := re.match(r"\w[\w.-]*", line))]
        for name in names:
            if package(name) not in locked:
                yield f"requirements/{path.name} names {name}, which {lock.name} does not hold: run nox -s lock"


def package(name: str) -> str:
    """A package's name as the index has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def commit_update(clone: Clone, template: Path, old: str, new: str, notes: Sequence[str]) -> None:
    """Commit the working tree; the message says what the template changed and what to know."""
    clone.git("add", "--all")
    if not clone.git("status", "--porcelain"):
        return
    parts = [f"Update from the template to {new[:12]}", changelog(template, old, new)]
    if notes:
        parts.append("To know:\n\n" + "\n".join(f"- {note}" for note in notes))
    message = "\n\n".join(part for part in parts if part) + "\n"
    run(clone.folder, "git", "commit", "--quiet", "--no-verify", "--cleanup=verbatim", "--file=-", text=message)


def changelog(template: Path, old: str, new: str) -> str:
    """What CHANGELOG.md of the template says at one commit and did not say at another."""
    texts = []
    for commit in (old, new):
        try:
            texts.append(run(template, "git", "show", f"{commit}:CHANGELOG.md"))
        except FleetError:
            texts.append("")
    known, written = ([part.strip() for part in re.split(r"(?m)^(?=## )", text)[1:]] for text in texts)
    return "\n\n".join(part for part in written if part not in known)


def push(clone: Clone) -> None:
    """Push the branch of a clone that is committed whole and without a conflict; FleetError otherwise."""
    if problems := unfinished(clone):
        raise FleetError(f"not pushed: {summary(problems)}")
    clone.git("push", "--quiet", "origin", f"HEAD:refs/heads/{clone.branch}")


def pull_request(clone: Clone) -> str:
    """Open a pull request for the branch that was pushed, by GitHub's or GitLab's own program; a note of the outcome.

    Its text is that of the commits: the template's changelog, and what to know.
    """
    title = clone.git("log", "-1", "--format=%s").strip()
    text = clone.git("log", "--format=%b", "origin/HEAD..HEAD").strip()
    program = forge_program(clone.git("remote", "get-url", "origin"))
    if program == "glab":
        command = ["glab", "mr", "create", "--yes", "--source-branch", clone.branch]
        command += ["--title", title, "--description", text]
    else:
        command = ["gh", "pr", "create", "--head", clone.branch, "--title", title, "--body", text]
    if shutil.which(program) is None:
        return f"no pull request, as {program} is not installed"
    try:
        said = run(clone.folder, *command).strip()
    except FleetError as error:
        if "already exists" in str(error):
            return "its pull request is open already"
        return f"no pull request: {str(error).splitlines()[0]}"
    # Both print the address, glab below other lines.
    return next(iter(re.findall(r"https?://\S+", said)[::-1]), "its pull request is open")


def forge_program(url: str) -> str:
    """The program that opens pull requests where a repository is; of one whose address does not tell, what is there."""
    for name, program in (("gitlab", "glab"), ("github", "gh")):
        if name in url:
            return program
    return "gh" if shutil.which("gh") or not shutil.which("glab") else "glab"


def bring(repository: str, options: argparse.Namespace) -> Outcome:
    """Update and push one repository, and write down what became of it."""
    clone = Clone(repository, (options.work / folder_name(repository)).resolve(), options.branch)
    try:
        outcome = update(clone, options.work.resolve(), options.revision)
        if options.push and outcome.state == UPDATED:
            push(clone)
            request = f"; {pull_request(clone)}" if options.pull_requests else ""
            outcome = Outcome(repository, PUSHED, f"{outcome.note}{request}", outcome.details)
        clone.remember(outcome.state, outcome.note, outcome.details)
    except (FleetError, OSError, UnicodeError, ValueError, KeyError) as error:
        # A row for every repository, whatever is wrong with one.
        text = str(error) if isinstance(error, FleetError) else f"{type(error).__name__}: {error}"
        outcome = Outcome(repository, FAILED, text.splitlines()[0], text.splitlines()[1:])
        undo(clone, outcome)
    return outcome


def undo(clone: Clone, outcome: Outcome) -> None:
    """After a failure: put aside what the update had changed, and remember that it failed."""
    try:
        if (clone.folder / ".git").exists():
            outcome = replace(outcome, details=[*put_aside(clone), *outcome.details])
        clone.remember(outcome.state, outcome.note, outcome.details)
    except (FleetError, OSError):
        # The state stays "working", and the next run puts it aside.
        return


def row(number: int, count: int, width: int, outcome: Outcome) -> str:
    """One repository's line, no wider than the terminal; its state file has the note whole."""
    name = shortened(outcome.repository[::-1], width)[::-1]
    head = f"{number}/{count}  {name:{width}}  {outcome.state:8}  "
    width = max(NOTE // 2, shutil.get_terminal_size((len(head) + NOTE, 0)).columns - len(head))
    return head + shortened(outcome.note, width)


def shortened(text: str, most: int) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def main(arguments: Sequence[str] | None = None) -> int:
    """Updates all.

    Exit status: 0 nothing needs a person, 1 something is to merge by hand, 2 the list or the command cannot be used,
    3 at least one repository failed.
    """
    parser = argparse.ArgumentParser(prog="nox -s fleet --", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("list", type=Path, help="file with one repository a line: URL or directory")
    parser.add_argument(
        "--work", type=Path, default=Path("fleet-clones"), help="folder for the clones, by default fleet-clones/"
    )
    parser.add_argument("--branch", default="template-update", help="the branch to make, by default template-update")
    parser.add_argument("--revision", help="tag, branch or commit of the template, by default its newest")
    parser.add_argument("--push", action="store_true", help="push the branch of every repository that was updated")
    parser.add_argument(
        "--pull-requests",
        action="store_true",
        help="and open a pull request for it, by gh or glab where it is installed",
    )
    parser.add_argument("--jobs", type=int, default=4, help="repositories at a time, by default 4")
    options = parser.parse_args(arguments)
    try:
        repositories = read_list(options.list)
    except FleetError as error:
        print(error, file=sys.stderr)
        return UNUSABLE
    options.work.mkdir(parents=True, exist_ok=True)
    outcomes = []
    width = min(max(map(len, repositories)), WIDTH)
    with ThreadPoolExecutor(max(1, options.jobs)) as pool:
        for number, outcome in enumerate(pool.map(lambda name: bring(name, options), repositories), 1):
            outcomes.append(outcome)
            print(row(number, len(repositories), width, outcome), flush=True)
    totals = Counter(outcome.state for outcome in outcomes)
    print(", ".join(f"{count} {state}" for state, count in sorted(totals.items())))
    print(f"clones are in {options.work}, on branch {options.branch}; NAME.json beside each says all about it")
    if totals[FAILED]:
        return SOME_FAILED
    return SOME_BY_HAND if totals[BY_HAND] else DONE


if __name__ == "__main__":
    sys.exit(main())
