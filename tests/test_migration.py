"""What the migration of release 0.2.0 keeps of a team's work, in a repository of 0.1.0 with work in what moved."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from documented import documented
from rendered import DIRECTORY, ROOT, commit_all, cruft, files, fleet, git, history

pytestmark = pytest.mark.render

# The last commit of 0.1.0, and the one that moved files, 0.2.0.
LAST, MOVED = "adaca94", "c9677e9"
MIGRATIONS = sorted((ROOT / DIRECTORY / "mlplatform" / "migrations").glob("*.toml"))
DELETED = {"tests/serving/test_overload.py": "mlplatform/tests/serving/test_overload.py"}


@pytest.fixture
def released(source: Path, tmp_path: Path) -> Path:
    """This repository's history up to what is here."""
    return history(source, tmp_path / "history")


def create(released: Path, directory: Path, release: str) -> Path:
    """A repository made from a release, with a team's work in files and folders that moved."""
    result = cruft(directory, "create", str(released), "--checkout", release, "--no-input", "--default-config")
    assert result.returncode == 0, result.stdout
    repository = next(path.parent for path in directory.glob("*/.cruft.json"))
    commit_all(repository, "As rendered")
    edit(repository / "model" / "network.py", '"""', '"""The team\'s own words. ')
    edit(repository / "artifacts" / "counters.py", "COUNTERS_BYTES = 8 * 16\n", "COUNTERS_BYTES = 8 * 32\n")
    for path in DELETED:
        (repository / path).unlink()
    write(repository / "serving" / "rules.py", "from serving.tensors import Tensor\n\nRULES: list[Tensor] = []\n")
    write(repository / "tests" / "test_rules.py", "from serving import rules\n\nassert rules.RULES == []\n")
    commit_all(repository, "The team's work")
    return repository


def edit(path: Path, old: str, new: str) -> None:
    """Replace a text that is in a file."""
    text = path.read_text(encoding="utf-8")
    assert old in text, path
    write(path, text.replace(old, new, 1))


def write(path: Path, text: str) -> None:
    """Write a file."""
    path.write_text(text, encoding="utf-8")


def shell(directory: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a person types it; output and error are one text."""
    return subprocess.run(
        command, shell=True, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def model(repository: Path) -> dict[str, bytes]:
    """The files of the team's model."""
    return files(repository / "model")


def assert_team_work_moved(repository: Path) -> None:
    """What the team edited, deleted and added is so at the new paths, and nothing is left at the old ones."""
    counters = (repository / "mlplatform" / "ghost" / "counters.py").read_text(encoding="utf-8")
    assert "COUNTERS_BYTES = 8 * 32\n" in counters
    for old, new in DELETED.items():
        assert not (repository / old).exists()
        assert not (repository / new).exists()
    rules = (repository / "mlplatform" / "serving" / "rules.py").read_text(encoding="utf-8")
    assert rules == "from mlplatform.serving.protocols.tensors import Tensor\n\nRULES: list[Tensor] = []\n"
    test = (repository / "mlplatform" / "tests" / "test_rules.py").read_text(encoding="utf-8")
    assert test == "from mlplatform.serving import rules\n\nassert rules.RULES == []\n"
    for folder in ("artifacts", "delivery", "serving", "telemetry", "tests", "training"):
        assert not (repository / folder).exists()


def test_the_fleet_carries_a_teams_work_over_the_move_to_what_is_here(released: Path, tmp_path: Path) -> None:
    repository = create(released, tmp_path, LAST)
    before = model(repository)
    write(tmp_path / "fleet.txt", f"{repository}\n")

    result = fleet(tmp_path, "fleet.txt", "--push")

    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines()[0].split()[2] == "pushed"
    clone = tmp_path / "fleet-clones" / repository.name
    assert_team_work_moved(clone)
    assert model(clone) == before
    # One commit for the move, one for everything after it; the team's branch is as it was.
    subjects = git(clone, "log", "--format=%s", "origin/HEAD..HEAD").splitlines()
    stops = [git(released, "rev-parse", commit).strip()[:12] for commit in ("HEAD", MOVED)]
    assert subjects == [f"Update from the template to {commit}" for commit in stops]
    assert git(repository, "log", "-1", "--format=%s").strip() == "The team's work"
    pushed = git(repository, "rev-parse", "template-update")
    assert pushed == git(clone, "rev-parse", "HEAD")


def test_a_release_without_a_map_carries_edits_and_names_imports_of_modules_that_are_gone(
    released: Path, tmp_path: Path
) -> None:
    made = cruft(tmp_path, "create", str(released), "--checkout", MOVED, "--no-input", "--default-config")
    assert made.returncode == 0, made.stdout
    repository = next(path.parent for path in tmp_path.glob("*/.cruft.json"))
    training, serving = repository / "mlplatform" / "training", repository / "mlplatform" / "serving"
    edit(serving / "model" / "litert_runtime.py", "for one shape of inputs at a time", "used by one thread")
    (serving / "__main__.py").unlink()
    write(training / "leaves.py", "from mlplatform.training.parameters import TrainingParameters as Leaves\n")
    commit_all(repository, "The team's work")
    write(tmp_path / "fleet.txt", f"{repository}\n")

    result = fleet(tmp_path, "fleet.txt", "--push")

    assert result.returncode == 1, result.stdout + result.stderr
    clone = tmp_path / "fleet-clones" / repository.name
    details = json.loads(clone.with_name(f"{clone.name}.json").read_text(encoding="utf-8"))["details"]
    assert "mlplatform/training/leaves.py:1 imports mlplatform.training.parameters, which does not exist" in details
    assert "mlplatform/serving/command.py was deleted or renamed here and changed in the template" in details
    assert not (clone / "mlplatform" / "serving" / "command.py").exists()
    assert "used by one thread" in (clone / "mlplatform" / "runtime" / "litert.py").read_text(encoding="utf-8")
    assert git(repository, "branch", "--list", "template-update") == ""


def test_a_conflict_in_a_moved_file_is_reported_and_pushed_only_once_it_is_merged(
    released: Path, tmp_path: Path
) -> None:
    repository = create(released, tmp_path, LAST)
    report = repository / "training" / "report.py"
    edit(report, "from artifacts.gate import Verdict\n", "from artifacts.gate import Verdict as Judgement\n")
    commit_all(repository, "The team's own import")
    before = model(repository)
    write(tmp_path / "fleet.txt", f"{repository}\n")

    result = fleet(tmp_path, "fleet.txt", "--push")

    assert result.returncode == 1, result.stdout + result.stderr
    assert "by hand   mlplatform/training/report.py was changed here and in the template" in result.stdout
    clone = tmp_path / "fleet-clones" / repository.name
    text = (clone / "mlplatform" / "training" / "report.py").read_text(encoding="utf-8")
    assert "<<<<<<< HEAD:training/report.py\n" in text and "from artifacts.gate import Verdict as Judgement\n" in text
    assert "=======\n" in text and "from mlplatform.contract.gate import Verdict\n" in text
    assert git(repository, "branch", "--list", "template-update") == ""
    # All that can be done without a person is done.
    assert_team_work_moved(clone)
    assert model(clone) == before

    merged = re.sub(r"<<<<<<< .*?=======\n(.*?)>>>>>>> [^\n]*\n", r"\1", text, flags=re.DOTALL)
    write(clone / "mlplatform" / "training" / "report.py", merged)
    again = fleet(tmp_path, "fleet.txt", "--push")
    assert again.returncode == 1, again.stdout
    assert "by hand   not committed: " in again.stdout
    assert git(repository, "branch", "--list", "template-update") == ""

    commit_all(clone, "Merged by hand")
    last = fleet(tmp_path, "fleet.txt", "--push")
    assert last.returncode == 0, last.stdout + last.stderr
    state = json.loads((clone / ".cruft.json").read_text(encoding="utf-8"))
    assert state["commit"] == git(released, "rev-parse", "HEAD").strip()
    assert git(repository, "rev-parse", "template-update") == git(clone, "rev-parse", "HEAD")
    assert_team_work_moved(clone)


def test_one_repository_is_migrated_by_the_documented_commands(released: Path, tmp_path: Path) -> None:
    git(released, "tag", "v0.2.0", MOVED)
    repository = create(released, tmp_path, LAST)
    before = model(repository)
    program, *arguments = documented(ROOT, "docs/fleet.md", "cruft update").split()
    assert program == "cruft"
    updated = cruft(repository, *arguments)
    assert updated.returncode == 0, updated.stdout
    command = documented(ROOT, "docs/fleet.md", "python3 -m mlplatform.migrate")
    migrated = shell(repository, command)
    assert migrated.returncode == 0, migrated.stdout
    assert_team_work_moved(repository)
    assert model(repository) == before
    # A second run changes nothing.
    git(repository, "add", "--all")
    shell(repository, command)
    assert git(repository, "diff", "--name-only") == ""


def test_every_path_of_a_rename_map_was_in_the_release_before_and_is_in_the_release() -> None:
    assert [path.stem for path in MIGRATIONS] == ["0.2.0"]
    content = tomllib.loads(MIGRATIONS[0].read_text(encoding="utf-8"))
    before, after = (rendered_paths(commit) for commit in (LAST, MOVED))
    assert set(content["files"]) - before == set()
    assert set(content["files"].values()) - after == set()
    assert len(set(content["files"].values())) == len(content["files"])


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: str(path.stem))
def test_no_rename_map_moves_the_teams_model(path: Path) -> None:
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    old = [*content["files"], *content["folders"]]
    assert [name for name in old if name == "model" or name.startswith("model/")] == []


def rendered_paths(commit: str) -> set[str]:
    """Paths of the template's own files at a commit, as they are below the root of a repository."""
    listed = git(ROOT, "-c", "core.quotePath=false", "ls-tree", "-r", "--name-only", commit, "--", DIRECTORY)
    return {line.removeprefix(f"{DIRECTORY}/") for line in listed.splitlines()}
