"""Puts the chosen example in place, deletes what the answers make unnecessary, then prints the next steps.

cookiecutter renders this file and runs it in the folder of the rendered repository. It does not run `git init`: cruft
runs this hook in temporary folders and compares them, so a `.git` folder would appear in its diff.
"""

import json
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

# question -> answer -> paths that a repository with this answer does not need
UNNEEDED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "training_device": {
        "cpu": ("requirements/training-gpu.in", "requirements/training-gpu.txt"),
    },
}
# A folder for each example but the digits, which lie in model/ of the template: its model/ replaces theirs, and its
# gate.toml, if it has one, the table of the gate in service.toml, which is TOML in the template as well.
STARTS = "starts"
GATE = re.compile(r"^\[gate\.accuracy\]\n(?:.+\n)*", re.MULTILINE)
# Caches that tools leave in a checkout of the template when its code runs in place.
LEFT_BY_TOOLS = ("__pycache__", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".schemathesis")


# For a repository that cookiecutter made, not cruft.
LINK = """
To receive later versions of the template, tell the repository where it is:

    .venv/bin/nox -s update -- --link <URL of the template>
"""


def put_example_in_place(repository: Path, example: str) -> None:
    """Replace model/ and the gate by those of the example, and delete those of the others."""
    chosen = repository / STARTS / example
    if chosen.exists():
        shutil.rmtree(repository / "model")
        (chosen / "model").rename(repository / "model")
    if (chosen / "gate.toml").exists():
        replace_gate(repository, (chosen / "gate.toml").read_text(encoding="utf-8"))
    shutil.rmtree(repository / STARTS)


def replace_gate(repository: Path, tables: str) -> None:
    """Let service.toml ask for these in place of accuracy."""
    settings = repository / "service.toml"
    replaced, found = GATE.subn(lambda _: tables, settings.read_text(encoding="utf-8"))
    if found != 1:
        raise ValueError(f"{settings} has {found} tables [gate.accuracy], not one")
    settings.write_text(replaced, encoding="utf-8")


def delete_unneeded(repository: Path, answers: Mapping[str, str]) -> None:
    """Delete the files that `UNNEEDED` lists for these answers, and the caches of tools."""
    for question, paths in UNNEEDED.items():
        for path in paths.get(answers[question], ()):
            (repository / path).unlink()
    for name in LEFT_BY_TOOLS:
        for cache in list(repository.rglob(name)):
            shutil.rmtree(cache)


def next_steps(repository: Path, shell_directory: Path, *, linked: bool) -> str:
    """The message after rendering: commands that lead from the shell's directory to a running service.

    linked: whether the repository knows its template, as one that cruft made does.
    """
    short = shell_directory == repository.parent
    folder = repository.name if short else str(repository)
    return f"""
{repository.name} is ready. Next:

    cd {shlex.quote(folder)}
    git init && git add -A && git commit -m "As rendered"
    python3 -m venv .venv && .venv/bin/pip install -q -r requirements/dev.txt
    .venv/bin/nox -s train && .venv/bin/nox -s serve

Then edit model/; README.md explains how. Do not edit mlplatform/: it changes with the template.
{"" if linked else LINK}"""


def main() -> None:
    """Clean up the current directory and print the next steps."""
    answers = json.loads(r"""<< cookiecutter | tojson >>""")
    repository = Path.cwd()
    put_example_in_place(repository, answers["example"])
    delete_unneeded(repository, answers)
    # `cruft update` renders into temporary folders, where next steps make no sense.
    by_cruft = "_output_dir" not in answers
    if by_cruft and repository.is_relative_to(Path(tempfile.gettempdir()).resolve()):
        return
    print(next_steps(repository, Path(os.environ.get("PWD", "/")).resolve(), linked=by_cruft))


if __name__ == "__main__":
    main()
