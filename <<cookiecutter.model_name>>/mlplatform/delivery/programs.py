"""The programs that delivery calls: docker or buildah, kubectl and git, from PATH."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from mlplatform.delivery.errors import DeliveryError

INSTALL = {
    "docker": "https://docs.docker.com/engine/install",
    "buildah": "https://github.com/containers/buildah/blob/main/install.md",
    "kubectl": "https://kubernetes.io/docs/tasks/tools",
    "git": "https://git-scm.com/downloads",
}
# Lines of a failed program's output that the error repeats.
LAST_LINES = 20


class ProgramError(DeliveryError):
    """A program is missing or failed; `said` holds the last lines of its output."""

    def __init__(self, message: str, said: str = "") -> None:
        super().__init__(message)
        self.said = said


def output(
    *command: str, stdin: str | None = None, environment: Mapping[str, str] | None = None, seconds: float = 120
) -> str:
    """Standard output of a program. Raises ProgramError with its last lines if it fails or takes longer."""
    try:
        done = subprocess.run(  # noqa: S603
            command,
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except FileNotFoundError:
        raise _missing(command[0]) from None
    except subprocess.TimeoutExpired:
        raise ProgramError(f"{_shown(command)}: no answer within {seconds:g} seconds") from None
    if done.returncode:
        said = _last(done.stderr or done.stdout)
        raise ProgramError(f"{_shown(command)} failed:\n{said}", said)
    return done.stdout


def follow(*command: str, environment: Mapping[str, str] | None = None) -> None:
    """Run a program that shows its own progress, on standard error. Raises ProgramError if it fails."""
    try:
        done = subprocess.run(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            env={**os.environ, **(environment or {})},
        )
    except FileNotFoundError:
        raise _missing(command[0]) from None
    if done.returncode:
        raise ProgramError(f"{_shown(command)} failed with exit code {done.returncode}; its output is above")


def git(*arguments: str) -> str | None:
    """The output of git in the working directory, or None where there is no git or no repository."""
    try:
        return output("git", *arguments).strip()
    except ProgramError:
        return None


def _missing(program: str) -> ProgramError:
    place = f": {INSTALL[program]}" if program in INSTALL else ""
    return ProgramError(f"{program}: there is no such program on PATH; install it{place}")


def _shown(command: Sequence[str]) -> str:
    """The program and the words that say what it does, without the rest."""
    words = [word for word in command[1:] if not word.startswith("-")]
    return " ".join([command[0], *words[:2]])


def _last(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-LAST_LINES:])


@contextmanager
def port_forward(namespace: str, target: str, port: str) -> Iterator[int]:
    """A local port that forwards to a port of the cluster, such as `http` of service/x.

    Raises ProgramError if kubectl does not report the port within 30 seconds.
    """
    command = ("kubectl", "port-forward", target, f":{port}", f"--namespace={namespace}", "--address=127.0.0.1")
    try:
        process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except FileNotFoundError:
        raise _missing(command[0]) from None
    said: list[str] = []
    ready = threading.Event()

    def read() -> None:
        # To the end: kubectl prints a line per connection and blocks without a reader.
        for line in process.stdout or ():
            said.append(line.strip())
            ready.set()
        ready.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        ready.wait(30)
        forwarding = re.search(r"Forwarding from 127\.0\.0\.1:(\d+)", said[0] if said else "")
        if not forwarding:
            raise ProgramError(f"kubectl port-forward {target} failed:\n" + "\n".join(said[-LAST_LINES:]))
        yield int(forwarding[1])
    finally:
        process.terminate()
        process.wait()
        reader.join()
