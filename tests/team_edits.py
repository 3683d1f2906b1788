"""What teams do to their repositories between two updates: one function for each kind of edit.

Each takes the root of a repository of any release and a number, which makes the text that it writes its own.
"""

import re
from collections.abc import Callable
from pathlib import Path

Edit = Callable[[Path, int], None]


def platform(root: Path, path: str) -> Path:
    """A file of the platform: in 0.1.0 its packages were at the root of a repository."""
    old = root / path
    return old if old.exists() else root / "mlplatform" / path


def replace(path: Path, pattern: str, text: str) -> None:
    """Replace the first match of a pattern, which has to be there."""
    before = path.read_text(encoding="utf-8")
    after, count = re.subn(pattern, lambda match: match.expand(text), before, count=1, flags=re.MULTILINE)
    assert count, f"{path}: no {pattern!r}"
    path.write_text(after, encoding="utf-8")


def append(path: Path, text: str) -> None:
    """Add lines at a file's end."""
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def network(root: Path, number: int) -> None:
    """The team's own model, which no update touches."""
    replace(root / "model" / "network.py", '"""', f'"""Network {number} of the team. ')


def model_file(root: Path, number: int) -> None:
    """A file of the team's in `model/`."""
    (root / "model" / "features.py").write_text(f'"""Features {number}."""\n', encoding="utf-8")


def setting(root: Path, number: int) -> None:
    """Another value of a setting."""
    replace(root / "service.toml", "^epochs = 20$", f"epochs = {30 + number}")


def settings_section(root: Path, number: int) -> None:
    """Lines at the end of the settings, where the template adds its own."""
    append(root / "service.toml", f"# Notes of team {number}.\n")


def readme_section(root: Path, number: int) -> None:
    """A section in the README before the template's first one."""
    replace(root / "README.md", "^## ", f"## About leaves\n\nOf {number} trees.\n\n## ")


def readme_of_the_team(root: Path, number: int) -> None:
    """A README that is all the team's."""
    (root / "README.md").write_text(f"# Leaves\n\nModel {number}.\n", encoding="utf-8")


def package(root: Path, number: int) -> None:
    """A package of the team's among the template's, as before there were files for it."""
    replace(root / "requirements" / "training.in", "^boto3", f"a-package-of-team-{number}\nboto3")


def lock(root: Path, number: int) -> None:
    """A lock that the team made anew: another version in its first pin."""
    replace(root / "requirements" / "training.txt", r"^([\w.-]+==)\S+", rf"\g<1>99.{number}")


def dockerfile(root: Path, number: int) -> None:
    """A line in an image."""
    replace(root / "docker" / "serving.Dockerfile", "^FROM (.*)$", rf"FROM \1\nLABEL team={number}")


def deployment(root: Path, number: int) -> None:
    """A line in a file of the deployment."""
    replace(root / "deploy" / "aws" / "stack.yaml", "^(Description: .*)$", rf"\1\n# Account of team {number}.")


def line_endings(root: Path, number: int) -> None:
    """A file as an editor on Windows writes it."""
    path = root / ".dockerignore"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def session(root: Path, number: int) -> None:
    """A session of the team's at the end of noxfile.py."""
    append(
        root / "noxfile.py", f'\n\n@nox.session\ndef leaves_{number}(session: nox.Session) -> None:\n    """Own."""\n'
    )


def executable(root: Path, number: int) -> None:
    """A script of the team's, with its bit of a program."""
    script = root / "scripts" / f"fetch-{number}.sh"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\n", encoding="utf-8")
    script.chmod(0o755)


def skipped(root: Path, number: int) -> None:
    """A file that updates are to pass by, and the team's words in it."""
    replace(root / "pyproject.toml", r'^skip = \["model"', 'skip = ["model", "docker/training.Dockerfile"')
    append(root / "docker" / "training.Dockerfile", f"LABEL team={number}\n")


def platform_line(root: Path, number: int) -> None:
    """A number in the platform's code."""
    replace(platform(root, "training/report.py"), "^MISTAKES = 12$", f"MISTAKES = {20 + number}")


def platform_import(root: Path, number: int) -> None:
    """An import in the platform's code, in a line that releases change."""
    replace(platform(root, "training/report.py"), r"^(from \S+ import Verdict)$", rf"\1 as Judgement{number}")


def own_module(root: Path, number: int) -> None:
    """A module in one of the platform's folders, which imports the platform; every second one what is gone later."""
    report = platform(root, "training/report.py")
    package = ".".join(report.parent.relative_to(root).parts)
    module = "parameters" if number % 2 and report.with_name("parameters.py").exists() else "report"
    text = f"from {package} import {module}\n\nLEAVES = {number}, {module}\n"
    report.with_name("leaves.py").write_text(text, encoding="utf-8")


def renamed(root: Path, number: int) -> None:
    """A file of the platform under another name, with words in it."""
    template = platform(root, "training/report_template.html")
    append(template, f"<!-- Leaves {number} -->\n")
    template.rename(template.with_name("leaves_template.html"))


def deleted(root: Path, number: int) -> None:
    """A test that the team does not want."""
    platform(root, "tests/serving/test_overload.py").unlink()


def moved(root: Path, number: int) -> None:
    """A file in a folder of the team's."""
    (root / "infrastructure").mkdir()
    (root / "deploy" / "aws" / "stack.yaml").rename(root / "infrastructure" / "stack.yaml")


KINDS: dict[str, Edit] = {
    edit.__name__: edit
    for edit in (
        *(network, model_file, setting, settings_section, readme_section, readme_of_the_team, package, lock),
        *(dockerfile, deployment, line_endings, session, executable, skipped, platform_line, platform_import),
        *(own_module, renamed, deleted, moved),
    )
}
# Where a kind takes files away, from where to where; None: nowhere. Of 0.1.0; later it is below `mlplatform/`.
RENAMES = {
    "renamed": ("training/report_template.html", "training/leaves_template.html"),
    "deleted": ("tests/serving/test_overload.py", None),
    "moved": ("deploy/aws/stack.yaml", "infrastructure/stack.yaml"),
}
