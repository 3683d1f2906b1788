"""What is done in this repository, by name: `nox` lists it, `nox -s train` does it."""

import os
import sys
import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv"
nox.options.reuse_existing_virtualenvs = True
# None by itself: `nox` lists them.
nox.options.sessions = []

REQUIREMENTS = Path("requirements")


def _install(session: nox.Session, *purposes: str) -> None:
    files = [argument for purpose in purposes for argument in ("-r", str(REQUIREMENTS / f"{purpose}.txt"))]
    session.install("--require-hashes", *files)


@nox.session
def train(session: nox.Session) -> None:
    """Train a model and publish it: `nox -s train -- --epochs 5`."""
    _install(session, "training")
    session.run("python", "-m", "mlplatform", "train", *session.posargs)


@nox.session
def gather(session: nox.Session) -> None:
    """Make a dataset version without training: `nox -s gather -- --source s3://bucket/prefix`."""
    _install(session, "training")
    session.run("python", "-m", "mlplatform", "gather", *session.posargs)


@nox.session
def serve(session: nox.Session) -> None:
    """Serve the newest published model: `nox -s serve -- --port 9000`."""
    settings = tomllib.loads(Path("service.toml").read_text(encoding="utf-8"))["serving"]
    runtime = os.environ.get("SERVING_RUNTIME") or settings.get("runtime", "tensorflow")
    _install(session, "serving" if runtime == "tensorflow" else f"serving-{runtime}")
    session.run("python", "-m", "mlplatform", "serve", *session.posargs)


@nox.session
def delivery(session: nox.Session) -> None:
    """Run any other command of the platform: `nox -s delivery -- models`."""
    _install(session, "delivery")
    session.run("python", "-m", "mlplatform", *session.posargs)


@nox.session
def release(session: nox.Session) -> None:
    """Play a whole release in containers of this machine: `nox -s release -- --epochs 3`."""
    _install(session, "dev", "delivery")
    session.run("python", "-m", "mlplatform.tests.release", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the team's tests in model/tests, and hold the model against every stage, from training to serving."""
    _install(session, "dev", "training", "serving", "delivery")
    session.run("pytest", *session.posargs)


@nox.session
def platform_tests(session: nox.Session) -> None:
    """Run the platform's own tests, or some: `nox -s platform_tests -- mlplatform/tests/store`."""
    _install(session, "dev", "training", "serving", "delivery")
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    # The contract of the model is part of `tests`.
    own = ("mlplatform/tests", "--ignore=mlplatform/tests/model_contract")
    by_default = "not clients and not policies and not cluster"
    session.run(
        *("pytest", *own, "-m", f"not serial and {by_default}"),
        *("--numprocesses=auto", "--maxprocesses=4", "--dist=loadfile"),
    )
    session.run("pytest", *own, "-m", f"serial and {by_default}")


@nox.session
def clients(session: nox.Session) -> None:
    """Try the server with clients that others wrote: NVIDIA's, KServe's, MLServer's, curl, an API tester."""
    _install(session, "dev", "training", "serving")
    session.run("pytest", "-m", "clients", "mlplatform/tests/serving", *session.posargs)


@nox.session
def policies(session: nox.Session) -> None:
    """Check deploy/k8s with a policy linter that others wrote."""
    _install(session, "dev", "serving")
    session.run("pytest", "-m", "policies", "mlplatform/tests/deploy/test_policies.py", *session.posargs)


@nox.session
def cluster(session: nox.Session) -> None:
    """Try deploy/k8s and delivery in the cluster that KUBECONFIG names; `-- --image REF` plays releases."""
    _install(session, "dev", "delivery")
    session.run("python", "-m", "mlplatform.tests.deploy.cluster", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and types."""
    _install(session, "dev", "training", "serving", "delivery")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def audit(session: nox.Session) -> None:
    """Look up known vulnerabilities of every locked package, online: in the database of the Python package index."""
    _install(session, "audit")
    for path in sorted(REQUIREMENTS.glob("*.txt")):
        # Strict: a package that the database does not know is a failure, not silence.
        session.run("pip-audit", "--strict", "--require-hashes", "--disable-pip", "--requirement", str(path))


@nox.session(venv_backend="none")
def lock(session: nox.Session) -> None:
    """Lock requirements/*.in with hashes: `nox -s lock -- --upgrade` takes the newest versions."""
    names = sorted(path.stem for path in REQUIREMENTS.glob("*.in"))
    # The GPU build of TensorFlow is never installed beside the other one: it follows their lock instead of shaping it.
    together = [name for name in names if not name.endswith("-gpu")]
    common = Path(session.create_tmp()) / "together.txt"
    sources = [str(REQUIREMENTS / f"{name}.in") for name in together]
    _compile(session, sources, common, *session.posargs)
    for name in names:
        _compile(session, [str(REQUIREMENTS / f"{name}.in")], REQUIREMENTS / f"{name}.txt", "--constraint", str(common))


def _compile(session: nox.Session, sources: list[str], target: Path, *arguments: str) -> None:
    session.run(
        # The one beside nox: a shell has not to have `.venv/bin` on its PATH.
        sys.executable,
        "-m",
        "uv",
        "pip",
        "compile",
        "--quiet",
        "--universal",
        "--python-version=3.11",
        "--generate-hashes",
        "--custom-compile-command=nox -s lock",
        "--no-annotate",
        *arguments,
        *sources,
        f"--output-file={target}",
        external=True,
    )
