"""A rendered repository follows its template: `cruft create`, a change in the template, `cruft update`."""

import json
from pathlib import Path

import pytest
from documented import documented
from rendered import DEFAULTS, DIRECTORY, QUESTIONS, ROOT, commit_all, cruft, files, fleet, git, history, nox, render

pytestmark = pytest.mark.render

ANSWERS = {
    "example": "text",
    "model_name": "leaf-reader",
    # What the template's own delimiters and every escape could spoil on the way through .cruft.json.
    "description": r'Reads "leaves" \o/, Gemüse, << x >>, <% if %>, {{ y }}, ${z}',
    "training_device": "cpu",
}


@pytest.fixture
def repository(source: Path, tmp_path: Path) -> Path:
    """A git repository that a team made from the template with cruft."""
    program, *create = documented(ROOT, "README.md", ".venv/bin/cruft create").split(maxsplit=4)
    # Where the first command put it: a shell need not have it on its PATH.
    assert program == ".venv/bin/cruft"
    assert create == ["create", "--output-dir", "..", "<URL or directory of this template>"]
    (tmp_path / "shell").mkdir()
    arguments = [*create[:3], str(source), "--no-input", "--extra-context", json.dumps(ANSWERS)]
    result = cruft(tmp_path / "shell", *arguments)
    assert result.returncode == 0, result.stdout
    commit_all(tmp_path / "leaf-reader", "As rendered")
    return tmp_path / "leaf-reader"


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text, path
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_an_update_brings_the_change_and_keeps_what_the_team_wrote(source: Path, repository: Path) -> None:
    rewrite(repository / "model" / "network.py", '"""', '"""The team\'s own words. ')
    (repository / "model" / "features.py").write_text('"""The team\'s own file."""\n', encoding="utf-8")
    rewrite(repository / "README.md", "## Where things are", "## About leaves\n\nGreen.\n\n## Where things are")
    rewrite(repository / "service.toml", "epochs = 20", "epochs = 50")
    rewrite(repository / "requirements" / "training.in", "boto3", "a-package-of-the-team\nboto3")
    team = commit_all(repository, "The team's model")

    rewrite(source / DIRECTORY / "starts" / "text" / "model" / "network.py", '"""', '"""The template\'s other words. ')
    rewrite(source / DIRECTORY / "README.md", "## Deploy", "A line new in the template.\n\n## Deploy")
    rewrite(source / DIRECTORY / "service.toml", "maximum_age_days = 30", "maximum_age_days = 40")
    rewrite(source / DIRECTORY / "requirements" / "serving.in", "flask", "flask!=99")
    rewrite(source / "cookiecutter.json", '"__template_version": "', '"__template_version": "99.')
    novelty = source / DIRECTORY / "mlplatform" / "training" / "novelty.py"
    novelty.write_text('"""New in the template."""\n', encoding="utf-8")
    commit_all(source, "Changes")

    result = cruft(repository, "update", "--skip-apply-ask")
    assert result.returncode == 0, result.stdout
    assert "Good work! Project's cruft has been updated" in result.stdout
    changed = {line[3:] for line in git(repository, "status", "--porcelain").splitlines()}
    ours = {
        "README.md",
        "service.toml",
        "deploy/k8s/base/deployment.yaml",
        "requirements/serving.in",
        "mlplatform/training/novelty.py",
    }
    assert changed == {".cruft.json", *ours}
    assert git(repository, "diff", "--name-only", "--diff-filter=U") == ""
    assert git(repository, "diff", team, "--", "model", "requirements/training.in") == ""
    readme = (repository / "README.md").read_text(encoding="utf-8")
    assert "## About leaves" in readme and "A line new in the template." in readme
    settings = (repository / "service.toml").read_text(encoding="utf-8")
    assert "epochs = 50" in settings and "maximum_age_days = 40" in settings and 'version = "99.' in settings
    # What the answers made unneeded does not come back, and nobody is told to set up a repository again.
    assert not (repository / "requirements" / "training-gpu.txt").exists()
    assert "Next:" not in result.stdout
    commit_all(repository, "The template's changes")
    assert cruft(repository, "check").returncode == 0


def test_nox_updates_a_repository_that_cookiecutter_made_once_it_is_linked(source: Path, tmp_path: Path) -> None:
    repository = render(source, tmp_path / "made", ANSWERS)
    commit_all(repository, "As rendered")
    version = json.loads((source / "cookiecutter.json").read_text(encoding="utf-8"))["__template_version"]
    git(source, "tag", f"v{version}")
    command = documented(repository, "docs/development.md", ".venv/bin/nox -s update").split()[1:]

    refused = nox(repository, *command)
    assert refused.returncode == 1
    assert "no .cruft.json; name the template once: `.venv/bin/nox -s update -- --link URL`" in refused.stdout

    linked = nox(repository, *command, "--", "--link", str(source))
    assert linked.returncode == 0, linked.stdout
    answers = json.loads((repository / ".cruft.json").read_text(encoding="utf-8"))["context"]["cookiecutter"]
    assert {name: answers[name] for name in QUESTIONS} == {**DEFAULTS, **ANSWERS}
    git(repository, "add", ".cruft.json")
    git(repository, "commit", "-q", "-m", "Linked")

    rewrite(source / DIRECTORY / "README.md", "## Deploy", "A line new in the template.\n\n## Deploy")
    commit_all(source, "A new line")
    updated = nox(repository, *command)
    assert updated.returncode == 0, updated.stdout
    assert "A line new in the template." in (repository / "README.md").read_text(encoding="utf-8")
    assert "nothing to migrate" in updated.stdout


def of_platform(contents: dict[str, bytes]) -> dict[str, bytes]:
    """The files that are not the team's model."""
    return {path: content for path, content in contents.items() if not path.startswith("model/")}


def releases() -> list[str]:
    """The commits of this template that changed its version, the oldest first; none in a checkout without history."""
    log = git(ROOT, "log", "--reverse", "--format=%H", "-G", '"__template_version"', "--", "cookiecutter.json")
    return log.split()


@pytest.mark.parametrize("release", releases(), ids=lambda commit: str(commit)[:7])
def test_a_repository_of_any_release_can_be_updated_to_what_is_here(release: str, source: Path, tmp_path: Path) -> None:
    template = history(source, tmp_path / "history")
    # Earlier ones have no such question: what they made counts as the first example.
    given = {name: answer for name, answer in ANSWERS.items() if name != "example"}
    answers = json.dumps(given)
    result = cruft(tmp_path, "create", str(template), "--checkout", release, "--no-input", "--extra-context", answers)
    assert result.returncode == 0, result.stdout
    repository = tmp_path / "leaf-reader"
    rewrite(repository / "model" / "network.py", '"""', '"""The team\'s own words. ')
    team = commit_all(repository, "The team's model")
    (tmp_path / "fleet.txt").write_text(f"{repository}\n", encoding="utf-8")

    # By way of every release that moved files, which `cruft update` alone would pass over.
    result = fleet(tmp_path, "fleet.txt")

    assert result.returncode == 0, result.stdout + result.stderr
    updated_repository = tmp_path / "fleet-clones" / "leaf-reader"
    assert git(updated_repository, "status", "--porcelain") == ""
    assert git(updated_repository, "diff", team, "--", "model") == ""
    expected = files(render(source, tmp_path / "as-new", given))
    updated = {
        path: content for path, content in files(updated_repository).items() if not path.startswith((".git/", ".cruft"))
    }
    # The model is the team's, compared above; all else is as in a repository that is rendered today.
    assert of_platform(updated) == of_platform(expected)


def test_check_and_diff_see_nothing_on_the_first_day(repository: Path) -> None:
    check = cruft(repository, "check")
    assert check.returncode == 0, check.stdout
    diff = cruft(repository, "diff", "--exit-code")
    assert diff.returncode == 0, diff.stdout


def test_answers_come_back_as_they_were_given(repository: Path) -> None:
    answers = json.loads((repository / ".cruft.json").read_text(encoding="utf-8"))["context"]["cookiecutter"]
    assert {name: answers[name] for name in ANSWERS} == ANSWERS


def test_cruft_renders_the_same_files_as_cookiecutter(repository: Path, template: Path, tmp_path: Path) -> None:
    by_cookiecutter = render(template, tmp_path / "by-cookiecutter", ANSWERS)
    by_cruft = {
        path: content for path, content in files(repository).items() if not path.startswith((".git/", ".cruft"))
    }
    assert by_cruft == files(by_cookiecutter)
