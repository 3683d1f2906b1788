"""Brings a release of this template to many repositories: one branch in each, nothing merged, nothing lost.

`fleet.py LIST`: a file with one repository a line (URL or directory, `#` starts a comment), each made with cruft. Every
one is cloned into a folder of its own, updated on a new branch and committed there. The repositories themselves are not
touched before `--push`, and then only by the new branch. A second run goes on with the clones that are there: what was
merged by hand in one and committed is pushed with the rest.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

UPDATED, CURRENT, BY_HAND, FAILED = "updated", "current", "by hand", "failed"


@dataclass(frozen=True)
class Outcome:
    """What became of one repository. `note`: files changed, files to merge by hand, or why it failed."""

    repository: str
    state: str
    note: str


class FleetError(Exception):
    """One repository cannot be updated; the message says why."""


def run(directory: Path, *command: str) -> str:
    """Output of a command; FleetError with its last line if it fails."""
    result = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    if result.returncode:
        said = (result.stderr or result.stdout).strip().splitlines()
        raise FleetError(f"{' '.join(command[:2])}: {said[-1] if said else f'exit code {result.returncode}'}")
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


def update(repository: str, folder: Path, branch: str, revision: str | None) -> Outcome:
    """Clones a repository into `folder` and updates it on `branch`; a clone that is there is taken as it is.

    FleetError if that is not possible.
    """
    if not folder.exists():
        run(Path.cwd(), "git", "clone", "--quiet", "--", repository, str(folder))
        if not (folder / ".cruft.json").is_file():
            raise FleetError("no .cruft.json; `cruft link` ties a repository to its template")
        run(folder, "git", "switch", "--quiet", "--create", branch)
        checkout = ["--checkout", revision] if revision else []
        run(folder, sys.executable, "-m", "cruft", "update", "--skip-apply-ask", *checkout)
        if not to_merge(folder) and run(folder, "git", "status", "--porcelain"):
            run(folder, "git", "add", "--all")
            run(folder, "git", "commit", "--quiet", "-m", f"Update from the template to {template_commit(folder)}")
    if conflicts := to_merge(folder):
        return Outcome(repository, BY_HAND, f"{', '.join(conflicts)} in {folder}")
    if run(folder, "git", "status", "--porcelain"):
        return Outcome(repository, BY_HAND, f"not committed: {folder}")
    changed = run(folder, "git", "diff", "--name-only", "origin/HEAD...HEAD").split()
    if not changed:
        return Outcome(repository, CURRENT, template_commit(folder))
    return Outcome(repository, UPDATED, f"{len(changed)} files")


def to_merge(folder: Path) -> list[str]:
    """The files of a clone where the team and the template changed the same lines."""
    conflicts = run(folder, "git", "diff", "--name-only", "--diff-filter=U").split()
    return conflicts + [str(path.relative_to(folder)) for path in sorted(folder.rglob("*.rej"))]


def template_commit(folder: Path) -> str:
    """The commit of the template that a repository is at, shortened."""
    commit: str = json.loads((folder / ".cruft.json").read_text(encoding="utf-8"))["commit"]
    return commit[:12]


def main(arguments: Sequence[str] | None = None) -> int:
    """Updates all; exit status 0 if no repository needs a person, 1 if some do, 2 if the list cannot be read."""
    parser = argparse.ArgumentParser(prog="nox -s fleet --", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("list", type=Path, help="file with one repository a line: URL or directory")
    parser.add_argument(
        "--work", type=Path, default=Path("fleet-clones"), help="folder for the clones, by default fleet-clones/"
    )
    parser.add_argument("--branch", default="template-update", help="the branch to make, by default template-update")
    parser.add_argument("--revision", help="tag, branch or commit of the template, by default its newest")
    parser.add_argument("--push", action="store_true", help="push the branch of every repository that was updated")
    options = parser.parse_args(arguments)
    try:
        repositories = read_list(options.list)
    except FleetError as error:
        print(error, file=sys.stderr)
        return 2
    options.work.mkdir(parents=True, exist_ok=True)
    outcomes = []
    width = max(map(len, repositories))
    for number, repository in enumerate(repositories, 1):
        folder = (options.work / folder_name(repository)).resolve()
        try:
            outcome = update(repository, folder, options.branch, options.revision)
            if options.push and outcome.state == UPDATED:
                run(folder, "git", "push", "--quiet", "origin", options.branch)
        except FleetError as error:
            outcome = Outcome(repository, FAILED, str(error))
        outcomes.append(outcome)
        print(f"{number}/{len(repositories)}  {repository:{width}}  {outcome.state:8}  {outcome.note}", flush=True)
    print(f"clones are in {options.work}, on branch {options.branch}")
    return int(any(outcome.state in (BY_HAND, FAILED) for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
