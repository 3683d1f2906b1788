"""What a model was made with: the code, the commit, the packages."""

import hashlib
import os
import subprocess
from pathlib import Path

import keras
import numpy
import tensorflow

ROOT = Path(__file__).resolve().parents[2]
# The packages that a trained model depends on. A change in serving or delivery does not change the model.
PACKAGES = (
    "model",
    *(f"mlplatform/{name}" for name in ("config", "contract", "data", "reporting", "runtime", "store", "training")),
)


def code_version() -> str:
    """12 hex digits of the code that trains: the Python files of PACKAGES, but tests, and the locked requirements."""
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    paths = [path for path in paths if "tests" not in path.relative_to(ROOT).parts]
    paths += sorted((ROOT / "requirements").glob("training*.txt"))
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def git_commit() -> str | None:
    """The commit checked out, from $GIT_COMMIT or git; None if git does not track this code.

    A repository around this one that ignores it, or has not added it, says nothing about the code.
    """
    given = os.environ.get("GIT_COMMIT")
    if given:
        return given
    try:
        _git("ls-files", "--error-unmatch", "--", "mlplatform/training/provenance.py")
        return _git("rev-parse", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    # git from the PATH, as in the user's shell; no argument comes from outside.
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603


def package_versions() -> dict[str, str]:
    """Versions of the packages that a trained model depends on."""
    return {package.__name__: package.__version__ for package in (tensorflow, keras, numpy)}
