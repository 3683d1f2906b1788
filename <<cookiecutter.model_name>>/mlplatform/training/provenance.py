"""What a model was made with: the code, the commit, the packages."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The packages that a trained model depends on. A change in serving or delivery does not change the model.
PACKAGES = tuple(
    f"mlplatform/{name}" for name in ("config", "contract", "data", "reporting", "runtime", "store", "training")
)
# Below model/ they are no part of the model: its data has a version of its own, and these are made or for people.
LEFT_OUT = ("tests", "__pycache__")


def code_version(root: Path = ROOT, data: Path | None = None) -> str:
    """12 hex digits of the code that trains below a repository's root.

    It is made of every file of `model/`, such as a vocabulary, but for its `data` directory, tests, hidden files and
    those in Markdown; of the Python files of PACKAGES, but for tests; and of the locked requirements.
    """
    paths = [path for path in (root / "model").rglob("*") if path.is_file() and _is_code(path, root / "model", data)]
    paths += [path for package in PACKAGES for path in (root / package).rglob("*.py")]
    paths = sorted(path for path in paths if not set(LEFT_OUT) & set(path.relative_to(root).parts))
    paths += sorted((root / "requirements").glob("training*.txt"))
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def _is_code(path: Path, package: Path, data: Path | None) -> bool:
    """Whether a file below the team's package is more than data; data: where its bundled records lie."""
    if data is not None and data != package and path.is_relative_to(data):
        return False
    hidden = any(part.startswith(".") for part in path.relative_to(package).parts)
    return not hidden and path.suffix not in (".md", ".pyc")


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


def package_versions(names: Sequence[str]) -> dict[str, str]:
    """Versions of those packages that this process has imported, by the name that they are imported by."""
    return {name: str(sys.modules[name].__version__) for name in names if hasattr(sys.modules.get(name), "__version__")}
