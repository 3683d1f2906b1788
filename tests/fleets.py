"""A fleet of repositories of all earlier releases with teams' edits in them, and what one run of fleet.py makes of it.

`python tests/fleets.py --repositories 100` prints how many were updated, are to be merged by hand, and failed, and the
seconds. Every file of every repository is compared with a three-way merge by `git merge-file`, which knows nothing of
the merge that fleet.py asks git for.
"""

import argparse
import ast
import functools
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rendered import DIRECTORY, ROOT, commit_all, copy_template, cruft, files, fleet, git, history
from team_edits import KINDS, RENAMES

Files = Mapping[str, bytes]
# The first and the last commit of 0.1.0, and the first ones of 0.2.0 and 0.3.0.
RELEASES = ("13a213e", "adaca94", "c9677e9", "d4f4091")
MOVED = "c9677e9"
CONFLICT = re.compile(rb"^<{7} [^\n]*\n(.*?)^={7}\n(.*?)^>{7} [^\n]*\n", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Repository:
    """One of the fleet: the release that it is of, and the kinds of edits in it."""

    name: str
    release: str
    kinds: Sequence[str]


@dataclass(frozen=True)
class Step:
    """One update, from a release to the next one on the way: before and after it, and both renderings."""

    before: Files
    after: Files
    old: Files
    new: Files
    renames: Mapping[str, str]
    """What the template renamed or moved, new path by old one."""
    team_renames: Mapping[str, str]
    """What the team did, new path by old one."""
    folders: Mapping[str, str]
    """Folders of the template that moved, with what a team had added there; empty if no migration belongs to it."""


@dataclass
class Verdict:
    """What an independent merge says of a step. wrong: paths that hold something else, with what is wrong."""

    conflicts: set[str]
    wrong: list[str]


def composed(count: int) -> list[Repository]:
    """Repositories in which every kind of edit occurs, and in a hundred of them every kind in every release."""
    names = list(KINDS)
    fleet = []
    for number in range(count):
        release = RELEASES[(number + number // len(names)) % len(RELEASES)]
        places = dict.fromkeys((number % len(names), (number + 10) % len(names)))
        if number >= 10:
            places |= dict.fromkeys([(number * 7 + 3) % len(names)])
        fleet.append(Repository(f"team-{number:03}", release, [names[place] for place in sorted(places)]))
    return fleet


class Template:
    """This template's history with the working tree on top, and what it renders at each commit."""

    def __init__(self, work: Path) -> None:
        source = copy_template(ROOT, work / "source")
        self.path = history(source, work / "template")
        self.head = git(self.path, "rev-parse", "HEAD").strip()
        self._work = work
        self._renames: dict[tuple[str, str], dict[str, str]] = {}
        self._files: dict[str, dict[str, bytes]] = {}
        migration = next(self.path.glob(f"{DIRECTORY}/mlplatform/migrations/0.2.0.toml"))
        self.moves = tomllib.loads(migration.read_text(encoding="utf-8"))

    def rendered(self, commit: str) -> Path:
        """A repository as it was made at a commit."""
        place = self._work / "rendered" / commit[:7]
        if not place.exists():
            place.mkdir(parents=True)
            options = ("--no-input", "--default-config", "--output-dir", str(place))
            made = cruft(self._work, "create", str(self.path), "--checkout", commit, *options)
            assert made.returncode == 0, made.stdout
        (repository,) = place.iterdir()
        return repository

    def files(self, commit: str) -> dict[str, bytes]:
        """What is in it, without cruft's own file."""
        if commit not in self._files:
            content = files(self.rendered(commit))
            own = {path for path in content if path != ".cruft.json" and not path.startswith(".git/")}
            self._files[commit] = {path: content[path] for path in own}
        return self._files[commit]

    def renames(self, old: str, new: str) -> dict[str, str]:
        """What the template renamed between two commits, as git sees it in what they render."""
        if (old, new) not in self._renames:
            with tempfile.TemporaryDirectory() as directory:
                trees = []
                for commit in (old, new):
                    shutil.copytree(self.rendered(commit), directory, dirs_exist_ok=True)
                    git(Path(directory), "init", "-q")
                    trees.append(commit_all(Path(directory), commit))
                    git(Path(directory), "rm", "-rq", "--cached", ".")
                    for path in files(Path(directory)):
                        if not path.startswith(".git/"):
                            (Path(directory) / path).unlink()
                listed = git(Path(directory), "diff", "-M", "-l10000", "--name-status", "-z", *trees).split("\0")
            pairs = iter(listed)
            renamed = {}
            for status in pairs:
                if status.startswith("R"):
                    path = next(pairs)
                    renamed[path] = next(pairs)
                elif status:
                    next(pairs)
            self._renames[old, new] = renamed
        return self._renames[old, new]


def make(repositories: Sequence[Repository], template: Template, directory: Path) -> None:
    """The repositories, with their teams' edits committed, and the list of them, `fleet.txt`."""
    for number, repository in enumerate(repositories):
        place = directory / repository.name
        shutil.copytree(template.rendered(repository.release), place, symlinks=True)
        commit_all(place, "As rendered")
        for kind in repository.kinds:
            KINDS[kind](place, number)
        commit_all(place, "The team's work")
    names = "".join(f"{directory / repository.name}\n" for repository in repositories)
    (directory / "fleet.txt").write_text(names, encoding="utf-8")


def steps(repository: Repository, template: Template, clone: Path) -> Iterator[Step]:
    """What the run did to a clone: its commits one after the other, and the working tree if that is not committed."""
    commits = git(clone, "rev-list", "--reverse", "origin/HEAD..HEAD").split()
    states = [committed(clone, commit) for commit in ("origin/HEAD", *commits)]
    if git(clone, "status", "--porcelain"):
        states.append(present(clone))
    targets = [MOVED] if repository.release in RELEASES[:2] else []
    at = [repository.release, *targets, template.head]
    for before, after, old, new in zip(states, states[1:], at, at[1:], strict=False):
        migrating = new == MOVED
        moves = template.moves if migrating else {"files": {}, "folders": {}}
        renames = template.renames(old, new) | moves["files"]
        yield Step(
            *(before, after, template.files(old), template.files(new), renames),
            *(dict(team_renames(repository, before)), moves["folders"]),
        )


def team_renames(repository: Repository, before: Files) -> Iterator[tuple[str, str]]:
    """What the team renamed, by its paths in the release."""
    for kind in repository.kinds:
        old, new = RENAMES.get(kind, ("", None))
        for root in ("", "mlplatform/"):
            if new and f"{root}{new}" in before:
                yield f"{root}{old}", f"{root}{new}"


def committed(clone: Path, commit: str) -> dict[str, bytes]:
    """The files of a commit."""
    command = ["git", "archive", "--format=tar", commit]
    content = subprocess.run(command, cwd=clone, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        extracted = ((member.name, archive.extractfile(member)) for member in archive if member.isfile())
        return {name: file.read() for name, file in extracted if file and name != ".cruft.json"}


def present(clone: Path) -> dict[str, bytes]:
    """The files of a working tree that are not ignored."""
    listed = git(clone, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    paths = {name for name in listed if name and (clone / name).is_file()} - {".cruft.json"}
    return {name: (clone / name).read_bytes() for name in paths}


def verdict(step: Step) -> Verdict:
    """Merge every file of a step by itself, and compare."""
    found = Verdict(set(), [])
    skip = tomllib.loads(step.before["pyproject.toml"].decode()).get("tool", {}).get("cruft", {}).get("skip", [])
    looked_at = set()
    for old in sorted(step.old):
        new = step.renames.get(old, old)
        looked_at |= {old, new}
        mine = step.team_renames.get(old, old)
        if passed_by(old, skip):
            expect(step, found, new if old in step.renames else old, step.before.get(old))
        elif mine != old:
            place = moved(step, mine)
            looked_at |= {mine, place}
            merge(step, found, place, (step.before[mine], step.old[old], step.new.get(new, step.old[old])))
        elif old not in step.before:
            expect(step, found, new, None)
        elif new not in step.new:
            expect(step, found, old, step.before[old] if step.before[old] != step.old[old] else None)
        else:
            merge(step, found, new, (step.before[old], step.old[old], step.new[new]))
    for path in sorted(step.new.keys() - looked_at - step.before.keys()):
        expect(step, found, path, None if passed_by(path, skip) else step.new[path])
    for path in sorted(step.before.keys() - step.old.keys() - looked_at):
        expect(step, found, moved(step, path), step.before[path])
    return found


def passed_by(path: str, skip: Sequence[str]) -> bool:
    """Whether updates leave a path alone."""
    return any(PurePosixPath(path).is_relative_to(entry) for entry in skip)


def moved(step: Step, path: str) -> str:
    """Where a file goes that the team added."""
    for folder in map(str, PurePosixPath(path).parents):
        if folder in step.folders:
            return str(PurePosixPath(step.folders[folder]) / PurePosixPath(path).relative_to(folder))
    return path


def expect(step: Step, found: Verdict, path: str, content: bytes | None) -> None:
    """Note a path that does not hold this; None: that is there at all."""
    there = step.after.get(path)
    if there == content or (step.folders and path.endswith(".py") and same_but_imports(there, content)):
        return
    found.wrong.append(f"{path} {'is there' if content is None else 'is gone' if there is None else 'differs'}")


def same_but_imports(there: bytes | None, content: bytes | None) -> bool:
    """Whether two Python files differ in statements that import, which a migration rewrites."""
    if there is None or content is None:
        return False
    kept = [[line for line in text.splitlines() if b"import" not in line] for text in (there, content)]
    return kept[0] == kept[1]


def merge(step: Step, found: Verdict, path: str, sides: tuple[bytes, bytes, bytes]) -> None:
    """Merge one file, and note a conflict, or that the path holds another result. sides: ours, base, theirs."""
    ours, base, theirs = sides
    if ours in (base, theirs) or base == theirs:
        expect(step, found, path, theirs if ours == base else ours)
        return
    merged, conflict = merge_file(*sides)
    if not conflict:
        expect(step, found, path, merged)
        return
    found.conflicts.add(path)
    for number, option in enumerate(("--ours", "--theirs"), 1):
        side = CONFLICT.sub(rf"\{number}".encode(), step.after.get(path, b""))
        if side.rstrip() != merge_file(*sides, option)[0].rstrip():
            found.wrong.append(f"{path} lacks lines of {option[2:]} in its conflict")


def merge_file(ours: bytes, base: bytes, theirs: bytes, *options: str) -> tuple[bytes, bool]:
    """What `git merge-file` makes of three files, and whether it met a conflict."""
    with tempfile.TemporaryDirectory() as directory:
        paths = [Path(directory, name) for name in ("ours", "base", "theirs")]
        for path, content in zip(paths, (ours, base, theirs), strict=True):
            path.write_bytes(content)
        result = subprocess.run(["git", "merge-file", "-p", *options, *map(str, paths)], capture_output=True)
    assert result.returncode < 128, result.stderr
    return result.stdout, result.returncode != 0


def lost_imports(tree: Files) -> set[str]:
    """Modules of the platform that a file imports and that are not in a tree, each with the file's path."""
    modules = {path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in tree}
    folders = {str(folder).replace("/", ".") for path in tree for folder in PurePosixPath(path).parents}
    lost = set()
    for path, content in tree.items():
        for package, name in imported(content) if path.endswith(".py") else ():
            defined = tree.get(f"{package.replace('.', '/')}/__init__.py", b"")
            of_package = name and package in folders and name.encode() not in defined
            module = f"{package}.{name}" if of_package else package
            if module not in modules | folders:
                lost.add(f"{path} {module}")
    return lost


@functools.cache
def imported(content: bytes) -> list[tuple[str, str]]:
    """The modules of the platform that a file imports, each with a name that it imports from it, or none."""
    if CONFLICT.search(content):
        return []
    found = []
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += [(node.module, alias.name) for alias in node.names]
    return [(module, name) for module, name in found if module.partition(".")[0] == "mlplatform"]


def old_places(clone: Path, note: str) -> list[str]:
    """Of what is to do by hand, the lines that name a place from before a move, and are there."""
    lines = []
    for path, number, text in re.findall(r"(\S+):(\d+) names an old place: ([^;]*)", note):
        written = (clone / path).read_text(encoding="utf-8").splitlines()[int(number) - 1]
        if written.strip().startswith(text.strip()):
            lines.append(f"{path}:{number}")
    return lines


def complaints(repository: Repository, template: Template, clone: Path) -> list[str]:
    """What is wrong with the result of one repository: nothing, if the run did and said what it should."""
    state = json.loads(clone.with_name(f"{clone.name}.json").read_text(encoding="utf-8"))
    done = list(steps(repository, template, clone))
    verdicts = [verdict(step) for step in done]
    wrong = [line for each in verdicts for line in each.wrong]
    conflicts = set().union(*(each.conflicts for each in verdicts))
    lost = lost_imports(done[-1].after) if done and not conflicts else set()
    by_hand = conflicts or lost or old_places(clone, state["note"])
    expected = "by hand" if by_hand else "updated"
    if state["state"] != expected:
        wrong.append(f"is {state['state']}, and should be {expected}: {state['note']}")
    reported = "\n".join(state["details"])
    wrong += [f"{path} is in conflict and not reported" for path in sorted(conflicts) if path not in reported]
    wrong += [f"{line} is not reported" for line in sorted(lost) if line.split()[0] not in reported]
    return [f"{repository.name} ({repository.release}; {', '.join(repository.kinds)}): {line}" for line in wrong]


@dataclass(frozen=True)
class Result:
    """What a run made of a fleet: repositories by state, what is wrong, and how long it took."""

    states: Counter[str]
    wrong: list[str]
    seconds: float
    output: str


def played(count: int, jobs: int, work: Path) -> Result:
    """Make a fleet, run fleet.py on it, and check what became of each."""
    template = Template(work)
    repositories = composed(count)
    make(repositories, template, work)
    started = time.monotonic()
    run = fleet(work, "fleet.txt", "--jobs", str(jobs))
    seconds = time.monotonic() - started
    clones = work / "fleet-clones"
    states = Counter(
        json.loads((clones / f"{each.name}.json").read_text(encoding="utf-8"))["state"] for each in repositories
    )
    wrong = [line for each in repositories for line in complaints(each, template, clones / each.name)]
    return Result(states, wrong, seconds, run.stdout + run.stderr)


def main() -> int:
    """Exit status: 0 if every repository is as an independent merge has it, else 1."""
    parser = argparse.ArgumentParser(prog="nox -s bench_fleet --", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--repositories", type=int, default=100, help="how many, by default 100")
    parser.add_argument("--jobs", type=int, default=4, help="how many at a time, by default 4")
    parser.add_argument("--keep", type=Path, help="an empty folder to work in, which stays")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.keep or Path(temporary)
        work.mkdir(exist_ok=True)
        result = played(options.repositories, options.jobs, work.resolve())
    print(result.output)
    print(*result.wrong, sep="\n")
    counted = ", ".join(f"{count} {state}" for state, count in sorted(result.states.items()))
    print(f"{counted}; {len(result.wrong)} differences from git merge-file; {result.seconds:.0f} s")
    return 1 if result.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
