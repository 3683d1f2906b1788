"""Renders the template and works in what comes out, as a user would: through command lines only."""

import fcntl
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

from jinja2 import Environment

ROOT = Path(__file__).parents[1]
DIRECTORY = "<<cookiecutter.model_name>>"
# What cookiecutter and cruft read of a template.
PARTS = ("cookiecutter.json", "hooks", DIRECTORY, "{{cookiecutter.cruft}}")
# What tools leave behind when the template's code is run in place.
LEFT_BY_TOOLS = shutil.ignore_patterns(
    "__pycache__", ".*_cache", ".hypothesis", ".schemathesis", ".venv", ".nox", ".work"
)
# Sessions of a rendered repository that install the same.
SAME_PACKAGES = ("platform_tests", "tests", "lint")
# Who commits where a program, not a test, calls git.
IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Platform"), ("EMAIL", "platform@example.com"))
}

CONTEXT: dict[str, Any] = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))
QUESTIONS: dict[str, Any] = {name: default for name, default in CONTEXT.items() if not name.startswith("_")}
CHOICES: dict[str, list[str]] = {name: options for name, options in QUESTIONS.items() if isinstance(options, list)}


def answered(answers: Mapping[str, str]) -> dict[str, str]:
    """All answers: those given, and the defaults for the others, some of which follow from those before."""
    environment = Environment(**CONTEXT["_jinja2_env_vars"])
    complete: dict[str, str] = {}
    for name, default in QUESTIONS.items():
        first = default[0] if isinstance(default, list) else default
        complete[name] = answers.get(name) or environment.from_string(first).render(cookiecutter=complete)
    return complete


DEFAULTS: dict[str, str] = answered({})
# Every option of every choice at least once; the first of them are the defaults.
VARIANTS: list[dict[str, str]] = [{}] + [{name: option} for name, options in CHOICES.items() for option in options[1:]]
# Each example by the names of the first, so that only what is about the example is another.
EXAMPLES: dict[str, dict[str, str]] = {
    example: {"example": example, **{name: DEFAULTS[name] for name in ("model_name", "description")}}
    for example in CHOICES["example"][1:]
}
# Every option with every other, without what is the default anyway, and every example with the default options; the
# first of them are the defaults.
COMBINATIONS: list[dict[str, str]] = [
    {name: option for name, option in zip(CHOICES, options, strict=True) if option != DEFAULTS[name]}
    for options in product(*({**CHOICES, "example": [DEFAULTS["example"]]}.values()))
] + list(EXAMPLES.values())


def left_behind(directory: str, names: list[str]) -> set[str]:
    """Of the names in a directory, those that tools left; a store only at the root of the template."""
    store = {"store"} if Path(directory).name == DIRECTORY else set()
    return LEFT_BY_TOOLS(directory, names) | store & set(names)


def copy_template(source: Path, destination: Path) -> Path:
    """A copy of the template alone, without what tools left behind in the working tree."""
    for part in PARTS:
        if (source / part).is_dir():
            shutil.copytree(source / part, destination / part, ignore=left_behind)
        else:
            destination.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / part, destination / part)
    return destination


def cookiecutter(
    template: Path, output: Path, answers: Mapping[str, str], typed: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs `cookiecutter` in `output` with answers on its command line, or with what a user types at its prompts.

    Output and error are one text, as in a terminal. The user's own defaults and replays are neither read nor written.
    """
    with tempfile.TemporaryDirectory() as home:
        arguments = ["--default-config"] if typed is not None else ["--default-config", "--no-input"]
        return subprocess.run(
            [sys.executable, "-m", "cookiecutter", str(template), *arguments, *map("=".join, answers.items())],
            cwd=output,
            env={**os.environ, "HOME": home, "PWD": str(output)},
            input=typed or "",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="surrogateescape",
        )


def render(template: Path, output: Path, answers: Mapping[str, str]) -> Path:
    """The directory of a repository rendered into `output`, which is made; RuntimeError with the output if refused."""
    output.mkdir(parents=True, exist_ok=True)
    result = cookiecutter(template, output, answers)
    if result.returncode:
        raise RuntimeError(result.stdout)
    return output / answered(answers)["model_name"]


def files(directory: Path) -> dict[str, bytes]:
    """Content of every file below a directory, by path relative to it."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def sources(template: Path, example: str) -> dict[str, bytes]:
    """What stands in the template for each file of a repository that starts from an example, by its path there."""
    found = files(template / DIRECTORY)
    start = f"starts/{example}/"
    own = {path.removeprefix(start): content for path, content in found.items() if path.startswith(f"{start}model/")}
    replaced = ("starts/", "model/") if own else ("starts/",)
    return {path: content for path, content in found.items() if not path.startswith(replaced)} | own


def module(path: Path) -> ModuleType:
    """A module of the rendered side's tests that needs nothing but the standard library."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[path.stem] = found
    spec.loader.exec_module(found)
    return found


def nox(repository: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Runs the repository's own nox, with settings as environment variables; output and error are one text."""
    return subprocess.run(
        [sys.executable, "-m", "nox", *arguments],
        cwd=repository,
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def put_model(repository: Path, example: str) -> None:
    """Put the model of an example of tests/examples/ in place of a repository's, and the packages that it names."""
    shutil.rmtree(repository / "model")
    for path in (ROOT / "tests" / "examples" / example).iterdir():
        if path.is_dir():
            shutil.copytree(path, repository / path.name, ignore=LEFT_BY_TOOLS, dirs_exist_ok=True)


def set_serving_runtime(repository: Path, runtime: str) -> None:
    """Let service.toml name another runtime than the first; ValueError if it does not name that one."""
    settings = repository / "service.toml"
    before, found, after = settings.read_text(encoding="utf-8").partition('runtime = "tensorflow"\n')
    if not found:
        raise ValueError(f"{settings} does not name the runtime tensorflow")
    settings.write_text(f'{before}runtime = "{runtime}"\n{after}', encoding="utf-8")


def share_environment(repository: Path, place: Path) -> None:
    """Let those sessions of a repository that install the same packages use one environment, made in `place` once.

    Processes that ask for it at the same time wait for the first. RuntimeError with nox's words if it can't be made.
    """
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        installed = nox(repository, "-s", SAME_PACKAGES[0], "--install-only", "--envdir", str(place))
        if installed.returncode:
            raise RuntimeError(installed.stdout)
        # So that it is compiled once, and not by each of several processes that start together.
        subprocess.run([place / SAME_PACKAGES[0] / "bin" / "python", "-c", "import tensorflow"], check=True)
    (repository / ".nox").mkdir(exist_ok=True)
    for session in SAME_PACKAGES:
        (repository / ".nox" / session).symlink_to(place / SAME_PACKAGES[0])


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str) -> tuple[int, Any]:
    """Status and JSON body of a GET."""
    return _send(urllib.request.Request(url))


def post(url: str, body: Any) -> tuple[int, Any]:
    """Status and JSON body of a POST of JSON."""
    data = json.dumps(body).encode()
    return _send(urllib.request.Request(url, data, {"Content-Type": "application/json"}))


def _send(request: urllib.request.Request) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


@contextmanager
def serving(
    repository: Path, log: Path, patience: float = 180.0, command: Sequence[str] = ("nox", "-s", "serve")
) -> Iterator[str]:
    """Starts `nox -s serve` in a repository and yields the base URL once it is ready; stops it in any case.

    RuntimeError with the server's log if it ends, or is not ready within `patience` seconds, or if nox, told to end,
    leaves the server behind.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with log.open("w", encoding="utf-8") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=repository,
            # Without draining: nobody else asks this server.
            env={**os.environ, "SERVING_PORT": str(port), "SERVING_DRAIN_SECONDS": "0"},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + patience
        while not _is_ready(url):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not become ready:\n{log.read_text(encoding='utf-8')}")
            time.sleep(0.2)
        yield url
        server.terminate()
        server.wait(60)
        if _is_ready(url):
            raise RuntimeError(f"nox has ended, and the server has not:\n{log.read_text(encoding='utf-8')}")
    finally:
        _stop(server)


def _is_ready(url: str) -> bool:
    try:
        return get(f"{url}/v2/health/ready")[0] == 200
    except (OSError, ValueError):
        return False


def _stop(server: subprocess.Popen[bytes]) -> None:
    """Asks nox and everything it started to end, and ends what is left after 20 seconds."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, sign)
            server.wait(20)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def published_model(repository: Path) -> dict[str, Any]:
    """The newest manifest of a model in a repository's local store, as JSON.

    Raises FileNotFoundError if there is none.
    """
    manifests = sorted(repository.glob("store/models/*/manifest.json"), key=lambda path: path.stat().st_mtime_ns)
    if not manifests:
        raise FileNotFoundError(f"no model in {repository / 'store' / 'models'}")
    found: dict[str, Any] = json.loads(manifests[-1].read_text(encoding="utf-8"))
    return found


def git(directory: Path, *arguments: str) -> str:
    """Output of a git command in a directory, as an author of its own; RuntimeError with git's words if it fails."""
    identity = ["-c", "user.name=Template Tests", "-c", "user.email=tests@example.com"]
    result = subprocess.run(
        ["git", *identity, "-c", "commit.gpgsign=false", *arguments],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if result.returncode:
        raise RuntimeError(f"git {' '.join(arguments)}: {result.stdout}")
    return result.stdout


def commit_all(directory: Path, message: str) -> str:
    """Commits everything in a directory, made a git repository if it is none; the commit's id."""
    if not (directory / ".git").exists():
        git(directory, "init", "-q", "-b", "main")
    git(directory, "add", "--all", "--force")
    git(directory, "commit", "-q", "-m", message)
    return git(directory, "rev-parse", "HEAD").strip()


def cruft(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs cruft in a directory; output and error are one text."""
    return subprocess.run(
        [sys.executable, "-m", "cruft", *arguments],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def history(source: Path, directory: Path) -> Path:
    """A clone of this template's repository, with the template at `source` committed on top of what was released."""
    git(directory.parent, "clone", "-q", str(ROOT), str(directory))
    for path in [directory / part for part in PARTS]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(source, directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".git"))
    shutil.copy2(ROOT / "CHANGELOG.md", directory)
    git(directory, "add", "--all", "--force")
    # Empty when the newest release is what is here.
    git(directory, "commit", "-q", "--allow-empty", "-m", "What is here")
    return directory


def fleet(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs fleet.py in a directory, without nox, which ends with a code of its own."""
    return subprocess.run(
        [sys.executable, str(ROOT / "fleet.py"), *arguments],
        cwd=directory,
        env={**os.environ, **IDENTITY},
        capture_output=True,
        text=True,
    )
