"""A rendered repository follows its template: `cruft create`, a change in the template, `cruft update`."""

import json
import shutil
from pathlib import Path

import pytest
from rendered import DIRECTORY, commit_all, cruft, files, git

pytestmark = pytest.mark.render

ANSWERS = {
    "model_name": "leaf-reader",
    # What the template's own delimiters and every escape could spoil on the way through .cruft.json.
    "description": r'Reads "leaves" \o/, Gemüse, << x >>, <% if %>, {{ y }}, ${z}',
    "training_device": "cpu",
}


@pytest.fixture
def source(template: Path, tmp_path: Path) -> Path:
    """A git repository of the template."""
    source = tmp_path / "template"
    shutil.copytree(template, source)
    commit_all(source, "The template")
    return source


@pytest.fixture
def repository(source: Path, tmp_path: Path) -> Path:
    """A git repository that a team made from the template with cruft."""
    result = cruft(tmp_path, "create", str(source), "--no-input", "--extra-context", json.dumps(ANSWERS))
    assert result.returncode == 0, result.stdout
    commit_all(tmp_path / "leaf-reader", "As rendered")
    return tmp_path / "leaf-reader"


def test_an_update_brings_the_change_and_keeps_what_the_team_wrote(source: Path, repository: Path) -> None:
    network = repository / "model" / "network.py"
    network.write_text(network.read_text(encoding="utf-8") + "\n# The team's own line.\n", encoding="utf-8")
    (repository / "model" / "features.py").write_text('"""The team\'s own file."""\n', encoding="utf-8")
    commit_all(repository, "The team's model")

    readme = source / DIRECTORY / "README.md"
    readme.write_text(readme.read_text(encoding="utf-8") + "\nA line new in the template.\n", encoding="utf-8")
    (source / DIRECTORY / "training" / "novelty.py").write_text('"""New in the template."""\n', encoding="utf-8")
    commit_all(source, "Two changes")

    result = cruft(repository, "update", "--skip-apply-ask")
    assert result.returncode == 0, result.stdout
    assert "Good work! Project's cruft has been updated" in result.stdout
    changed = {line[3:] for line in git(repository, "status", "--porcelain").splitlines()}
    assert changed == {".cruft.json", "README.md", "training/novelty.py"}
    assert "A line new in the template." in (repository / "README.md").read_text(encoding="utf-8")
    assert network.read_text(encoding="utf-8").endswith("\n# The team's own line.\n")
    assert (repository / "model" / "features.py").exists()
    # What the answers made unneeded does not come back, and nobody is told to set up a repository again.
    assert not (repository / "requirements" / "training-gpu.txt").exists()
    assert "Next:" not in result.stdout
    commit_all(repository, "The template's changes")
    assert cruft(repository, "check").returncode == 0


def test_check_and_diff_see_nothing_on_the_first_day(repository: Path) -> None:
    check = cruft(repository, "check")
    assert check.returncode == 0, check.stdout
    diff = cruft(repository, "diff", "--exit-code")
    assert diff.returncode == 0, diff.stdout


def test_answers_come_back_as_they_were_given(repository: Path) -> None:
    answers = json.loads((repository / ".cruft.json").read_text(encoding="utf-8"))["context"]["cookiecutter"]
    assert {name: answers[name] for name in ANSWERS} == ANSWERS


def test_cruft_renders_the_same_files_as_cookiecutter(repository: Path, template: Path, tmp_path: Path) -> None:
    from rendered import render

    by_cookiecutter = render(template, tmp_path / "by-cookiecutter", ANSWERS)
    by_cruft = {
        path: content for path, content in files(repository).items() if not path.startswith((".git/", ".cruft"))
    }
    assert by_cruft == files(by_cookiecutter)
