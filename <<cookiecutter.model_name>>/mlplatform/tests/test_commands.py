"""Every command that is written down in this repository is one that its command line takes: looked at, not run."""

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mlplatform.cli import COMMANDS, cli
from mlplatform.contract.parameters import parameters_type
from mlplatform.delivery.releases.deploy import deploy
from mlplatform.tests.conftest import ROOT, Command

JENKINSFILE = ROOT / "Jenkinsfile"
TEXTS = sorted(
    path
    for pattern in ("*.md", "*.toml", "Jenkinsfile", "docs/**/*", "docker/*", "deploy/**/*", "model/**/*.py")
    for path in ROOT.glob(pattern)
    if path.is_file()
)
COMMAND = re.compile(
    r"(?:nox -s delivery --|python -m mlplatform|nox -s (?=data)) ?([a-z][^`]*?)(?=`|\s*\\?$)", re.MULTILINE
)
TRAINING = re.compile(r"(?:nox -s train --|python -m mlplatform train) ([^`\n]+)")
SESSION = re.compile(r"\bnox -s ([a-z_]+)")
PATH = re.compile(r"(?<![\w:/.$}-])((?:[\w.-]+/)+[\w.-]+\.(?:py|toml|md|json|txt|yaml|Dockerfile))\b")
# Made by the commands themselves.
MADE_LATER = ("reports/", "store/", "releases/", ".venv/")
# What a build may have in the variables of the Jenkinsfile's scripts, all of them at once.
BUILD = {
    "MODEL": "0123456789ab",
    "DATASET": "0123456789ab",
    "EPOCHS": "5",
    "BATCH_SIZE": "64",
    "OTHER_PARAMETERS": "--learning-rate 0.001 --seed 7",
    "FORCE": "--force",
    "IMAGE": "registry.example.com/name-serving@sha256:0",
    "OVERRIDE_REASON": "Too few labels, yet faster",
    "GHOST_SAMPLE_RATE": "0.25",
    "GHOST_SINCE": "24h",
    "JOB": "0a1b2c3d-0000-4000-8000-0123456789ab",
    "IF_NEEDED": "yes",
    "MINUTES": "45",
    "LOG_FROM": "0",
    "OCCASION": "failure",
    "TEXT": "Failed: deploy",
}


def complaint(arguments: list[str]) -> str | None:
    """Why the command line does not take these arguments; None if it does."""
    group: click.Group = cli
    rest = arguments
    try:
        while rest:
            name, command, rest = group.resolve_command(click.Context(group), rest)
            assert command is not None
            if not isinstance(command, click.Group):
                command.make_context(name, list(rest))
                return None
            group = command
    except click.exceptions.Exit:
        # --help, which comes before all else.
        return None
    except click.ClickException as error:
        return error.format_message()
    return "Missing command."


def texts() -> Iterator[tuple[Path, str]]:
    """The files that tell of commands, but for locks and other data."""
    for path in TEXTS:
        try:
            yield path.relative_to(ROOT), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def written() -> list[tuple[str, str]]:
    """Commands in pages, manifests and settings: file, and the command's arguments."""
    return [
        (str(path), found.replace("data -- ", "data ", 1))
        for path, text in texts()
        if path.name != "Jenkinsfile"
        for found in COMMAND.findall(text.replace("\\n", "\n"))
    ]


def in_messages() -> list[tuple[str, str]]:
    """The commands that messages name: the text in every call of `hint`. What is filled in is VALUE."""
    commands = []
    for path in sorted((ROOT / "mlplatform").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or ast.unparse(node.func) != "hint" or "tests" in path.parts:
                continue
            # A name alone is a command that was typed.
            if not isinstance(node.args[0], ast.Name | ast.Attribute):
                commands.append((path.relative_to(ROOT).as_posix(), _text(node.args[0])))
    return commands


def _text(argument: ast.expr) -> str:
    """A text or f-string of the code."""
    if isinstance(argument, ast.JoinedStr):
        return "".join(_text(part) for part in argument.values)
    if isinstance(argument, ast.Constant):
        return str(argument.value)
    return "production" if ast.unparse(argument) == "{environment}" else "VALUE"


def in_jenkinsfile(environment: str) -> list[list[str]]:
    """The commands of the Jenkinsfile as a shell makes them of a build's parameters: the arguments of each."""
    text = JENKINSFILE.read_text(encoding="utf-8")
    scripts = [
        one or several for several, one in re.findall(r"\bsh\b[^'\n]*(?:'''(.*?)'''|'([^'\n]*)')", text, re.DOTALL)
    ]
    commands = [script for script in scripts if "-m mlplatform " in script]
    assert sum(script.count("-m mlplatform ") for script in commands) == text.count(".venv/bin/python -m mlplatform")
    # Each argument, ended by a zero, and each command by one more.
    program = 'delivery() { printf "%s\\0" "$@"; printf "\\0"; }\n'
    for script in commands:
        program += re.sub(r"\S*python -m mlplatform", "delivery", script) + "\n"
    done = subprocess.run(
        # -u: a variable that nobody sets is a mistake.
        ["/bin/sh", "-eu"],
        input=program,
        env={"PATH": os.environ["PATH"], "ENVIRONMENT": environment, **BUILD},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [command.split("\0") for command in done.stdout.removesuffix("\0\0").split("\0\0")]


def choices(parameter: str) -> list[str]:
    """The values that the Jenkinsfile offers for a parameter."""
    found = re.search(rf"name: '{parameter}',\s+choices: \[(.*?)\]", JENKINSFILE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return re.findall(r"'([^']+)'", found[1])


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("DELIVERY_STORAGE_URL", str(tmp_path))
    monkeypatch.setenv("DELIVERY_TRAINING_DEVICE", "cpu")


@pytest.mark.parametrize(("file", "arguments"), written())
def test_a_command_in_a_page_or_a_manifest_is_one(file: str, arguments: str) -> None:
    words = shlex.split(arguments)
    # A word alone is the command's name.
    assert words[0] in COMMANDS if len(words) == 1 else complaint(words) is None


@pytest.mark.parametrize(("file", "arguments"), in_messages())
def test_a_command_in_a_message_is_one(file: str, arguments: str) -> None:
    assert complaint(shlex.split(arguments)) is None


@pytest.mark.parametrize("environment", choices("ENVIRONMENT"))
def test_the_commands_of_the_jenkinsfile_are_some(environment: str) -> None:
    commands = in_jenkinsfile(environment)
    assert len(commands) > 10
    assert {" ".join(each): complaint(each) for each in commands if complaint(each)} == {}


def test_the_jenkinsfile_offers_every_environment() -> None:
    (option,) = (each for each in deploy.params if each.name == "environment")
    assert isinstance(option.type, click.Choice)
    assert sorted(choices("ENVIRONMENT")) == sorted(option.type.choices)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("deplay", "No such command 'deplay'. Did you mean 'deploy'?"),
        ("deploy --environment moon", "Invalid value for '--environment': 'moon' is not one of"),
        ("deploy --model 1", "Missing option '--environment'."),
        ("train --epoch 5", "No such option '--epoch'"),
        ("ghost", "Missing command."),
        ("gate", "Missing argument 'VERSION'."),
        ("models everything", "Got unexpected extra argument (everything)"),
    ],
)
def test_what_is_none_is_told(arguments: str, why: str) -> None:
    assert (complaint(arguments.split()) or "").startswith(why)


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        ("--help", 0),
        ("train --help", 0),
        ("submit --help", 0),
        ("gate --help", 0),
        ("deploy --help", 0),
        ("train --epoch 5", 2),
        ("train --epochs zero", 2),
        ("gather --seed -1", 2),
    ],
)
def test_neither_help_nor_a_wrong_parameter_waits_for_tensorflow_or_boto3(arguments: str, exit_code: int) -> None:
    program = (
        "import sys; from mlplatform.cli import main; code = main(sys.argv[1:]); "
        "print('imported:', *{'tensorflow', 'boto3'} & set(sys.modules)); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments.split()], capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (exit_code, "imported:"), done.stderr


def test_help_shows_what_holds_without_an_option_and_where_that_comes_from(command: Command) -> None:
    shown = " ".join(command("train", "--help", TRAINING_SEED="7").stdout.split())
    assert "fixes initial weights, data order and dropout [default: 7, from TRAINING_SEED]" in shown
    assert "passes over the training split [default: 10]" in shown
    assert "empty: the data bundled with the model [default: empty]" in shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_of_a_shell_asks_this_program(shell: str, command: Command) -> None:
    script = command("--completion", shell).stdout
    # What the script asks, as each shell would; whether zsh and fish are installed does not matter.
    asked = re.search(rf"{shell}_complete.*? (/\S+ -m mlplatform)\)", script)
    assert asked is not None, script
    words = {"COMP_WORDS": "mlplatform rollb", "COMP_CWORD": "rollb" if shell == "fish" else "1"}
    environment = {**os.environ, **words, "_MLPLATFORM_COMPLETE": f"{shell}_complete"}
    answer = subprocess.run(asked[1], shell=True, env=environment, capture_output=True, text=True)
    assert "rollback" in answer.stdout, answer.stderr


def test_bash_completes_a_command(command: Command) -> None:
    program = f"""{command("--completion", "bash").stdout}
        COMP_WORDS=(mlplatform rollb) COMP_CWORD=1
        _mlplatform_completion mlplatform
        echo "${{COMPREPLY[*]}}"
    """
    completed = subprocess.run(["bash", "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert completed.stdout == "rollback\n", completed.stderr


def test_the_trainings_parameters_that_pages_name_are_there() -> None:
    known = {f"--{name.replace('_', '-')}" for name in parameters_type().model_fields} | {"--help"}
    named = {
        (str(path), option)
        for path, text in texts()
        for found in TRAINING.findall(text)
        for option in found.split()
        if option[:2] == "--"
    }
    assert len(named) > 3
    assert {each for each in named if each[1] not in known} == set()


def test_the_sessions_of_nox_that_files_name_are_there() -> None:
    sessions = set(
        re.findall(r"^@nox\.session.*\ndef (\w+)", (ROOT / "noxfile.py").read_text(encoding="utf-8"), re.MULTILINE)
    )
    named = {(str(path), name) for path, text in texts() for name in SESSION.findall(text)}
    assert len({name for _, name in named}) > 5
    assert {each for each in named if each[1] not in sessions} == set()


def test_the_files_that_jenkinsfile_manifests_and_settings_name_are_there() -> None:
    named = {
        (path, name)
        for path, text in texts()
        for name in PATH.findall(text)
        if path.suffix != ".md" and not name.startswith(MADE_LATER)
    }
    assert len(named) > 10
    assert {
        (str(path), name)
        for path, name in named
        if not any((place / name).exists() for place in (ROOT, ROOT / path.parent))
    } == set()
