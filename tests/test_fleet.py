"""One release of the template for many repositories: what the commands of docs/fleet.md leave behind in each."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import fleets
import pytest
import rendered
from documented import documented
from rendered import DIRECTORY, IDENTITY, ROOT, commit_all, cruft, git
from team_edits import KINDS

pytestmark = pytest.mark.render


def fleet(directory: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Runs `nox -s fleet -- ...` in a directory that has of the template what that takes."""
    for name in ("fleet.py", "noxfile.py"):
        shutil.copy(ROOT / name, directory)
    return subprocess.run(
        [sys.executable, "-m", *command.split()],
        cwd=directory,
        env={**os.environ, **IDENTITY},
        capture_output=True,
        text=True,
    )


def create(source: Path, directory: Path, name: str) -> Path:
    result = cruft(directory, "create", str(source), "--no-input", "--extra-context", f'{{"model_name": "{name}"}}')
    assert result.returncode == 0, result.stdout
    commit_all(directory / name, "As rendered")
    return directory / name


def change(source: Path) -> None:
    readme = source / DIRECTORY / "README.md"
    text = readme.read_text(encoding="utf-8")
    readme.write_text(text.replace("## Where things are", "## Where everything is"), encoding="utf-8")
    commit_all(source, "Another heading")


def test_each_repository_gets_a_branch_and_is_itself_untouched(source: Path, tmp_path: Path) -> None:
    plain = create(source, tmp_path, "leaf-reader")
    contested = create(source, tmp_path, "bark-reader")
    readme = contested / "README.md"
    text = readme.read_text(encoding="utf-8")
    readme.write_text(text.replace("## Where things are", "## What is where"), encoding="utf-8")
    commit_all(contested, "The team's own heading")
    change(source)
    current = create(source, tmp_path, "root-reader")
    listed = tmp_path / "fleet.txt"
    listed.write_text(f"# All of ours\n{plain}\n{contested}  # since spring\n\n{current}\n", encoding="utf-8")

    result = fleet(tmp_path, documented(ROOT, "docs/fleet.md", "--branch template-update"))

    assert result.returncode == 1, result.stderr
    rows = [line.split()[2:4] for line in result.stdout.splitlines()[:3]]
    assert rows == [["updated", "2"], ["by", "hand"], ["current", git(source, "rev-parse", "HEAD")[:12]]]
    clone = tmp_path / "fleet-clones" / "leaf-reader"
    assert git(clone, "branch", "--show-current").strip() == "template-update"
    assert git(clone, "status", "--porcelain") == ""
    assert "## Where everything is" in (clone / "README.md").read_text(encoding="utf-8")
    # The team's words and the template's stand side by side, marked by git, for a person to choose from.
    merge = (tmp_path / "fleet-clones" / "bark-reader" / "README.md").read_text(encoding="utf-8")
    assert "<<<<<<< HEAD\n## What is where\n" in merge
    assert "=======\n## Where everything is\n" in merge
    for repository in (plain, contested, current):
        assert git(repository, "branch", "--list", "template-update") == ""

    (tmp_path / "fleet-clones" / "bark-reader" / "README.md").write_text("Merged by hand.\n", encoding="utf-8")
    commit_all(tmp_path / "fleet-clones" / "bark-reader", "Update from the template")
    again = fleet(tmp_path, documented(ROOT, "docs/fleet.md", "--push"))
    assert again.returncode == 0, again.stdout
    assert [line.split()[2] for line in again.stdout.splitlines()[:3]] == ["pushed", "pushed", "current"]
    pushed = {path.name for path in (plain, contested, current) if git(path, "branch", "--list", "template-update")}
    assert pushed == {"leaf-reader", "bark-reader"}


def test_one_that_cannot_be_updated_does_not_stop_the_others(source: Path, tmp_path: Path) -> None:
    by_hand = tmp_path / "no-cruft"
    by_hand.mkdir()
    (by_hand / "README.md").write_text("Made by hand.\n", encoding="utf-8")
    commit_all(by_hand, "First")
    current = create(source, tmp_path, "leaf-reader")
    listed = tmp_path / "fleet.txt"
    listed.write_text(f"{tmp_path / 'nowhere'}\n{by_hand}\n{current}\n", encoding="utf-8")
    result = fleet(tmp_path, "nox -s fleet -- fleet.txt")
    assert result.returncode == 1
    nowhere, no_cruft, last, totals, _ = result.stdout.splitlines()
    assert "failed    git clone: " in nowhere
    assert no_cruft.endswith("failed    no .cruft.json; `cruft link` ties a repository to its template")
    assert "current" in last
    assert totals == "1 current, 2 failed"


def test_what_a_killed_run_left_is_kept_and_named(source: Path, tmp_path: Path) -> None:
    repository = create(source, tmp_path, "leaf-reader")
    (tmp_path / "fleet.txt").write_text(f"{repository}\n", encoding="utf-8")
    assert rendered.fleet(tmp_path, "fleet.txt").returncode == 0
    clone = tmp_path / "fleet-clones" / "leaf-reader"
    state_file = tmp_path / "fleet-clones" / "leaf-reader.json"
    # As a run that is killed leaves it; then a person edits there.
    state_file.write_text('{"state": "working"}', encoding="utf-8")
    (clone / "README.md").write_text("A person's words.\n", encoding="utf-8")
    (clone / "new.txt").write_text("A person's file.\n", encoding="utf-8")

    result = rendered.fleet(tmp_path, "fleet.txt")

    assert result.returncode == 0, result.stdout
    state = json.loads(state_file.read_text(encoding="utf-8"))
    stash = git(clone, "rev-parse", "--short", "refs/stash").strip()
    assert state["state"] == "current"
    assert state["details"] == [f"an update that did not end left changes in {clone}; git stash keeps them: {stash}"]
    assert git(clone, "show", f"{stash}:README.md") == "A person's words.\n"
    assert git(clone, "show", f"{stash}:new.txt") == "A person's file.\n"


def test_a_merge_that_git_refuses_is_a_failure_and_is_not_pushed(source: Path, tmp_path: Path) -> None:
    repository = create(source, tmp_path, "leaf-reader")
    (tmp_path / "fleet.txt").write_text(f"{repository}\n", encoding="utf-8")
    assert rendered.fleet(tmp_path, "fleet.txt").returncode == 0
    clone = tmp_path / "fleet-clones" / "leaf-reader"
    change(source)
    # A commit on the branch keeps it from being reset, so that git comes as far as the merge.
    git(clone, "commit", "-q", "--allow-empty", "-m", "On the branch")
    before = git(clone, "rev-parse", "HEAD")
    (clone / ".git" / "index.lock").touch()

    result = rendered.fleet(tmp_path, "fleet.txt", "--push")

    assert result.returncode == 3, result.stdout
    assert "failed    git cherry-pick: " in result.stdout
    assert git(clone, "rev-parse", "HEAD") == before
    assert git(repository, "branch", "--list", "template-update") == ""
    (clone / ".git" / "index.lock").unlink()
    assert rendered.fleet(tmp_path, "fleet.txt").returncode == 0
    assert "## Where everything is" in (clone / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("forge", "program", "answer", "arguments"),
    [
        ("github", "gh", "https://example.com/pull/1", ["pr", "create", "--head", "template-update", "--title"]),
        (
            "gitlab",
            "glab",
            # As glab prints it.
            "\n!1 Update from the template (template-update)\n https://example.com/-/merge_requests/1\n",
            ["mr", "create", "--yes", "--source-branch", "template-update", "--title"],
        ),
    ],
)
def test_a_pull_request_is_opened_with_the_changes_as_its_text(
    forge: str,
    program: str,
    answer: str,
    arguments: list[str],
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / forge).mkdir()
    repository = create(source, tmp_path / forge, "leaf-reader")
    (tmp_path / "fleet.txt").write_text(f"{repository}\n", encoding="utf-8")
    (source / "CHANGELOG.md").write_text("# Changelog\n\n## 99\n\nAnother heading.\n", encoding="utf-8")
    change(source)
    # The program writes down what it was called with; the real ones need GitHub or GitLab.
    script = tmp_path / "bin" / program
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "$0.txt"\necho "{answer}"\n', encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")

    result = rendered.fleet(tmp_path, "fleet.txt", "--push", "--pull-requests")

    assert result.returncode == 0, result.stdout
    assert f"pushed    2 files; {answer.split()[-1]}" in result.stdout
    commit = git(source, "rev-parse", "HEAD")[:12]
    said = (tmp_path / "bin" / f"{program}.txt").read_text(encoding="utf-8")
    title = f"Update from the template to {commit}"
    described = "--description" if program == "glab" else "--body"
    assert said.startswith("\n".join([*arguments, title, described, ""]))
    assert "## 99\n\nAnother heading." in said


def test_a_pull_request_that_is_open_already_is_not_a_failure(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gitlab").mkdir()
    repository = create(source, tmp_path / "gitlab", "leaf-reader")
    (tmp_path / "fleet.txt").write_text(f"{repository}\n", encoding="utf-8")
    change(source)
    script = tmp_path / "bin" / "glab"
    script.parent.mkdir()
    # GitLab's words.
    script.write_text(
        "#!/bin/sh\necho '409 {message: [Another open merge request already exists for this source branch: !1]}' >&2\n"
        "exit 1\n",
        encoding="utf-8",
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    result = rendered.fleet(tmp_path, "fleet.txt", "--push", "--pull-requests")
    assert result.returncode == 0, result.stdout
    assert "pushed    2 files; its pull request is open already" in result.stdout


def test_a_line_is_as_wide_as_the_terminal_and_a_package_without_its_lock_is_named(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = create(source, tmp_path, "leaf-reader")
    packages = repository / "requirements" / "training.in"
    packages.write_text(packages.read_text(encoding="utf-8") + "Own_Package>=1  # ours\n", encoding="utf-8")
    readme = repository / "README.md"
    readme.write_text("Ours.\n", encoding="utf-8")
    commit_all(repository, "A package of our own, not locked")
    (tmp_path / "fleet.txt").write_text(f"{repository}\n", encoding="utf-8")
    monkeypatch.setenv("COLUMNS", "120")
    rendered.fleet(tmp_path, "fleet.txt")
    details = json.loads((tmp_path / "fleet-clones" / "leaf-reader.json").read_text(encoding="utf-8"))["details"]
    assert details == ["requirements/training.in names Own_Package, which training.txt does not hold: run nox -s lock"]

    change(source)
    line = rendered.fleet(tmp_path, "fleet.txt").stdout.splitlines()[0]
    assert "leaf-reader  by hand   README.md was changed here" in line
    assert len(line) <= 120


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("# nothing\n", "names no repository; expected one URL or directory a line"),
        ("git@a.example:x/leaf.git\nhttps://b.example/leaf\n", "more than one repository is called leaf"),
        (None, "No such file or directory"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused(text: str | None, reason: str, tmp_path: Path) -> None:
    listed = tmp_path / "fleet.txt"
    if text is not None:
        listed.write_text(text, encoding="utf-8")
    # Without nox, which ends with a code of its own.
    command = [sys.executable, str(ROOT / "fleet.py"), "fleet.txt"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (2, f"fleet.txt: {reason}\n")
    assert not (tmp_path / "fleet-clones").exists()


@pytest.mark.nightly
def test_a_fleet_with_every_kind_of_edit_is_merged_as_git_merges_each_file(tmp_path: Path) -> None:
    repositories = fleets.composed(10)
    assert {kind for repository in repositories for kind in repository.kinds} == set(KINDS)
    result = fleets.played(10, jobs=os.cpu_count() or 1, work=tmp_path)
    assert result.wrong == []
    assert result.states.keys() == {"updated", "by hand"}


def test_a_file_that_is_not_as_a_merge_has_it_is_found(tmp_path: Path) -> None:
    old, new = {"a.txt": b"1\n2\n3\n4\n5\n"}, {"a.txt": b"0\n2\n3\n4\n5\n"}
    team = {"a.txt": b"1\n2\n3\n4\n6\n"}
    project = {"pyproject.toml": b""}

    def wrong(after: bytes) -> list[str]:
        step = fleets.Step(team | project, {"a.txt": after} | project, old | project, new | project, {}, {}, {})
        return fleets.verdict(step).wrong

    assert wrong(b"0\n2\n3\n4\n6\n") == []
    assert wrong(b"0\n2\n3\n4\n5\n") == ["a.txt differs"]
    assert wrong(team["a.txt"]) == ["a.txt differs"]
