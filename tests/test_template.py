"""The template's own side: its README, its CI line, its locked requirements, what its hooks print, render_diff."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Render
from documented import commands, documented
from golden import CONFIGURATIONS
from references import missing_references, sessions
from render_diff import compare, difference
from rendered import DEFAULTS, DIRECTORY, ROOT, VARIANTS, commit_all, cookiecutter, cruft, files, git, nox

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.unit
class TestReadme:
    def test_names_nothing_that_is_not_there(self) -> None:
        assert missing_references(ROOT / "README.md") == []

    def test_starts_with_the_two_commands(self) -> None:
        demo, tests = [line for line in commands(README) if ".venv/bin/nox" in line][:2]
        set_up = "python3 -m venv .venv && .venv/bin/pip install -q -r requirements/dev.txt && .venv/bin/nox -s "
        assert demo == f"{set_up}demo"
        assert tests == f"{set_up}lint tests"

    def test_ci_runs_the_second_of_them_and_nothing_else(self) -> None:
        script = ROOT / ".ci" / "run"
        assert os.access(script, os.X_OK)
        lines = script.read_text(encoding="utf-8").splitlines()
        run = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
        assert run == [documented(ROOT, "README.md", "nox -s lint tests")]

    def test_lists_every_question_with_its_default(self) -> None:
        rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", README, re.MULTILINE))
        assert rows == DEFAULTS


@pytest.mark.unit
def test_the_changelog_starts_with_the_version_that_is_rendered() -> None:
    version = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))["__template_version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", changelog, re.MULTILINE)[0] == version


@pytest.mark.unit
def test_the_tag_of_a_release_is_that_of_its_version() -> None:
    version = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))["__template_version"]
    check = [sys.executable, str(ROOT / "tests" / "release_tag.py")]
    assert subprocess.run([*check, f"v{version}"]).returncode == 0
    refused = subprocess.run([*check, "v0.0.9"], capture_output=True, text=True)
    assert refused.returncode == 1
    assert (
        refused.stderr == f"tag v0.0.9: __template_version in cookiecutter.json is {version}; its tag is v{version}\n"
    )


@pytest.mark.unit
class TestRequirements:
    def test_are_locked_with_hashes_and_name_no_registry(self) -> None:
        lock = (ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8")
        pins = re.findall(r"^([a-z0-9-]+)==\S+.*\\\n    --hash=sha256:", lock, re.MULTILINE)
        named = re.findall(
            r"^([a-z0-9-]+)", (ROOT / "requirements" / "dev.in").read_text(encoding="utf-8"), re.MULTILINE
        )
        assert set(named) <= set(pins)
        assert len(pins) == len(re.findall(r"^[a-z0-9-]+==", lock, re.MULTILINE))
        assert "://" not in lock


@pytest.mark.unit
class TestDifference:
    def test_of_a_text_is_a_unified_diff(self) -> None:
        assert difference("a.txt", b"one\n", b"two\n") == "--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-one\n+two\n"

    def test_of_a_new_and_of_a_deleted_file_names_dev_null(self) -> None:
        assert difference("a.txt", None, b"x\n").startswith("--- /dev/null\n+++ b/a.txt\n")
        assert difference("a.txt", b"x\n", None).startswith("--- a/a.txt\n+++ /dev/null\n")

    def test_of_binary_and_of_empty_files_is_a_sentence(self) -> None:
        assert difference("a.gz", b"\xff", b"\xfe") == "Binary files a/a.gz and b/a.gz differ\n"
        assert difference("a.py", None, b"") == "Empty files /dev/null and b/a.py differ\n"

    def test_is_told_once_with_the_answers_that_show_it_unless_all_do(self) -> None:
        old = [{"a.txt": b"one\n"} for _ in VARIANTS]
        new = [{"a.txt": b"two\n"} for _ in VARIANTS]
        new[-1]["cpu.txt"] = b"x\n"
        report = compare(old, new)
        assert report.startswith("--- a/a.txt\n")
        assert report.count("a/a.txt") == 1
        assert compare(old, old) == ""
        assert "# only with training_device=cpu\n--- /dev/null\n+++ b/cpu.txt\n" in report


@pytest.mark.unit
@pytest.mark.parametrize("directory", [ROOT, ROOT / DIRECTORY], ids=["template", "repository"])
def test_nox_without_arguments_lists_every_session_with_its_line(directory: Path, tmp_path: Path) -> None:
    # Elsewhere, as nox would leave a folder behind.
    shutil.copy(directory / "noxfile.py", tmp_path)
    listed = nox(tmp_path)
    assert listed.returncode == 0, listed.stdout
    assert set(re.findall(r"^- (\w+) -> \S", listed.stdout, re.MULTILINE)) == sessions(directory)


@pytest.mark.render
def test_a_change_goes_from_the_template_to_a_repository_as_the_page_for_maintainers_says(
    source: Path, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "maintaining.md").read_text(encoding="utf-8")
    shutil.copy(ROOT / "noxfile.py", source)
    shutil.copytree(ROOT / "tests", source / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    commit_all(source, "Its tests")
    made = cruft(tmp_path, "create", str(source), "--no-input", "--extra-context", '{"model_name": "leaf-reader"}')
    assert made.returncode == 0, made.stdout
    repository = tmp_path / "leaf-reader"
    commit_all(repository, "As rendered")

    def run(session: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        assert f"`{' '.join(['nox -s', session, *(['--', *arguments] if arguments else [])])}`" in page
        return nox(source, "-s", session, "--", *arguments)

    settings = source / DIRECTORY / "service.toml"
    text = settings.read_text(encoding="utf-8").replace("epochs = 20\n", "epochs = 30\n")
    settings.write_text(f'{text}\n[new]\nregion = "<< cookiecutter.aws_region >>"\n', encoding="utf-8")
    shown = run("render_diff")
    assert shown.returncode == 0, shown.stdout
    assert "--- a/service.toml\n+++ b/service.toml\n" in shown.stdout
    assert "-epochs = 20\n+epochs = 30\n" in shown.stdout
    assert f'+[new]\n+region = "{DEFAULTS["aws_region"]}"\n' in shown.stdout
    differs = run("golden")
    assert differs.returncode == 1
    assert all(f"+++ b/{configuration}/service.toml\n" in differs.stdout for configuration in CONFIGURATIONS)
    assert run("golden", "--update").returncode == 0
    assert "epochs = 30\n" in (source / "tests" / "golden" / "cpu" / "service.toml").read_text(encoding="utf-8")
    commit_all(source, "Train longer")

    assert "`cruft update`" in page
    updated = cruft(repository, "update", "--skip-apply-ask")
    assert updated.returncode == 0, updated.stdout
    changed = [line[3:] for line in git(repository, "status", "--porcelain").splitlines()]
    assert changed == [".cruft.json", "service.toml"]
    assert "epochs = 30\n" in (repository / "service.toml").read_text(encoding="utf-8")
    assert cruft(repository, "check").returncode == 0


@pytest.mark.render
def test_render_diff_refuses_a_revision_that_there_is_not() -> None:
    command = [sys.executable, str(ROOT / "tests" / "render_diff.py"), "no-such-revision"]
    unknown = subprocess.run(command, capture_output=True, text=True)
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("no-such-revision: ")


@pytest.mark.render
class TestNextSteps:
    def test_are_commands_that_the_rendered_readme_knows_and_a_first_commit(
        self, template: Path, render: Render, tmp_path: Path
    ) -> None:
        printed = cookiecutter(template, tmp_path, {"model_name": "leaf-reader"}).stdout
        enter, commit, set_up, run, link = re.findall(r"^    (.*)$", printed, re.MULTILINE)
        assert enter == "cd leaf-reader"
        assert commit == 'git init && git add -A && git commit -m "As rendered"'
        known = commands((render({}) / "README.md").read_text(encoding="utf-8"))
        for step in (set_up, run):
            assert all(part in " ".join(known) for part in step.split(" && "))
        assert link == ".venv/bin/nox -s update -- --link <URL of the template>"

    def test_of_a_repository_that_cruft_made_do_not_ask_for_its_template(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # The repository is not below the folder for temporary files, where an update renders.
        (tmp_path / "temporary").mkdir()
        monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
        made = cruft(tmp_path, "create", str(source), "--no-input")
        assert "Next:" in made.stdout
        assert "--link" not in made.stdout

    def test_name_the_whole_path_if_the_repository_is_elsewhere(self, template: Path, tmp_path: Path) -> None:
        (tmp_path / "out of sight").mkdir()
        command = [sys.executable, "-m", "cookiecutter", str(template), "--no-input", "--default-config"]
        result = subprocess.run(
            [*command, "-o", "out of sight"],
            cwd=tmp_path,
            env={**os.environ, "PWD": str(tmp_path), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert f"cd '{tmp_path}/out of sight/digits-classifier'\n" in result.stdout


@pytest.mark.render
def test_no_git_repository_is_made(render: Render) -> None:
    assert not [path for path in files(render({})) if path.startswith(".git/")]


@pytest.mark.unit
def test_what_a_readme_names_and_is_not_there_is_found(tmp_path: Path) -> None:
    (tmp_path / "noxfile.py").write_text(
        "import nox\n\n\n@nox.session\ndef train(session):\n    pass\n", encoding="utf-8"
    )
    (tmp_path / "README.md").write_text(
        """# Title

Edit `model/network.py`, [this](gone.md), [that](#title) and [there](#nowhere), then `nox -s train -- --epochs 5`.

```bash
A=1 .venv/bin/nox -s train serve && python -m mlplatform train
curl -d '{"a":
  1}' localhost | unheard-of; pip install -r requirements/dev.txt  # not; a command
```
""",
        encoding="utf-8",
    )
    assert missing_references(tmp_path / "README.md") == [
        "nox session serve",
        "module mlplatform",
        "command unheard-of",
        "path requirements/dev.txt",
        "path model/network.py",
        "path gone.md",
        "heading #nowhere",
    ]
