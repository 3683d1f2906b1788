"""An environment for each server, from a file of pinned versions, built by uv once and again when the file changes."""

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
TEMPLATE = HERE.parent.parent / "<<cookiecutter.model_name>>"
REQUIREMENTS = {
    "training": TEMPLATE / "requirements" / "training.txt",
    "ours-tensorflow": TEMPLATE / "requirements" / "serving.txt",
    "ours-litert": TEMPLATE / "requirements" / "serving-litert.txt",
    **{
        name: HERE / "peers" / name / "requirements.txt"
        for name in ("fastapi", "granian", "bentoml", "litserve", "mlserver", "ray")
    },
}


@dataclass(frozen=True)
class Environment:
    """A virtual environment."""

    directory: Path

    @property
    def python(self) -> str:
        return str(self.directory / "bin" / "python")

    def program(self, name: str) -> str:
        """Path of a command that a package has installed."""
        return str(self.directory / "bin" / name)

    def megabytes(self) -> float:
        """Size of the installed packages."""
        packages = next(self.directory.glob("lib/python*/site-packages"))
        return sum(path.stat().st_size for path in packages.rglob("*") if path.is_file()) / 1e6


def environment(name: str, work: Path) -> Environment:
    """The environment of this name, built if need be. Raises CalledProcessError if a package cannot be installed."""
    requirements = REQUIREMENTS[name]
    directory = work / "environments" / name
    built_from = directory / "built-from"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if not built_from.is_file() or built_from.read_text() != digest:
        print(f"building the environment of {name}", flush=True)
        shutil.rmtree(directory, ignore_errors=True)
        uv = (sys.executable, "-m", "uv")
        # Cold starts are compared, and an image holds bytecode.
        install = (*uv, "pip", "install", "--quiet", "--compile-bytecode")
        subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, directory], check=True)
        found = Environment(directory)
        subprocess.run([*install, "--python", found.python, "-r", requirements], check=True)
        built_from.write_text(digest)
    return Environment(directory)
