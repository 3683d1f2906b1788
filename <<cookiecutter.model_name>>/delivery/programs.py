"""The programs that delivery calls: docker, kubectl and git, from PATH."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from delivery.errors import DeliveryError

INSTALL = {
    "docker": "https://docs.docker.com/engine/install",
    "kubectl": "https://kubernetes.io/docs/tasks/tools",
    "git": "https://git-scm.com/downloads",
}
# Of what a failed program said, that much is repeated.
LAST_LINES = 20


class ProgramError(DeliveryError):
    """A program is not there, or failed; `said` is what it wrote last."""

    def __init__(self, message: str, said: str = "") -> None:
        super().__init__(message)
        self.said = said


def output(
    *command: str, stdin: str | None = None, environment: Mapping[str, str] | None = None, seconds: float = 120
) -> str:
    """Standard output of a program. Raises ProgramError with what it said if it fails or takes longer."""
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
        raise ProgramError(f"{_shown(command)} failed with exit code {done.returncode}; it says above why")


def git(*arguments: str) -> str | None:
    """What git says of the working directory, or None where there is no git or no repository."""
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
