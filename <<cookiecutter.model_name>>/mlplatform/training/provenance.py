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
    """The commit checked out, from $GIT_COMMIT or git, or None outside a repository."""
    given = os.environ.get("GIT_COMMIT")
    if given:
        return given
    try:
        # git from the PATH, as in the user's shell; no argument comes from outside.
        command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def package_versions() -> dict[str, str]:
    """Versions of the packages that a trained model depends on."""
    return {package.__name__: package.__version__ for package in (tensorflow, keras, numpy)}
