"""What a person types to run a command of the platform: messages name the next command in this form."""

import os
import sys
from pathlib import Path

# The sessions of noxfile.py that are a command of their own; all others run by the session `delivery`.
SESSIONS = ("train", "gather", "serve", "data")


def program() -> str:
    """How this process's Python runs the platform, from the working directory."""
    python = Path(sys.executable)
    beside = python.is_relative_to(Path.cwd())
    return f"{python.relative_to(Path.cwd()) if beside else 'python'} -m mlplatform"


def hint(command: str) -> str:
    """What to type for a command and its arguments, such as `deploy --environment ghost`.

    Within a session of nox, the session; elsewhere, as in Jenkins, the Python that runs this.
    """
    if "NOX_CURRENT_SESSION" not in os.environ:
        return f"{program()} {command}"
    name, _, rest = command.partition(" ")
    session, arguments = (name, rest) if name in SESSIONS else ("delivery", command)
    return f".venv/bin/nox -s {session}" + (f" -- {arguments}" if arguments else "")
