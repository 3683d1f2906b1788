"""What is done in this repository, by name: `nox` lists it, `nox -s train` does it."""

import json
import os
import re
import shutil
import signal
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nox
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv"
nox.options.reuse_existing_virtualenvs = True
# None by itself: `nox` lists them.
nox.options.sessions = []

REQUIREMENTS = Path("requirements")
# What a server has to answer what it has begun, and a training to save how far it is, before it is killed.
ENDING_SECONDS = 60

# Where it is set, every command would compile what it imports again: TensorFlow starts in 17 s in place of 7.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# By SIGTERM nox would end alone, and leave behind what it runs. An interruption ends that first.
signal.signal(signal.SIGTERM, signal.default_int_handler)


def _install(session: nox.Session, *purposes: str) -> None:
    files = [argument for purpose in purposes for argument in ("-r", str(REQUIREMENTS / f"{purpose}.txt"))]
    session.install("--require-hashes", *files)


@nox.session
def train(session: nox.Session) -> None:
    """Train a model and publish it: `nox -s train -- --epochs 5`."""
    _install(session, "training")
    session.run("python", "-m", "mlplatform", "train", *session.posargs, terminate_timeout=ENDING_SECONDS)


@nox.session
def gather(session: nox.Session) -> None:
    """Make a dataset version without training: `nox -s gather -- --source s3://bucket/prefix`."""
    _install(session, "training")
    session.run("python", "-m", "mlplatform", "gather", *session.posargs)


@nox.session
def data(session: nox.Session) -> None:
    """Look at data, and add to it: `nox -s data -- report latest`."""
    _install(session, "data")
    session.run("python", "-m", "mlplatform", "data", *session.posargs)


@nox.session
def serve(session: nox.Session) -> None:
    """Serve the newest published model: `nox -s serve -- --port 9000`."""
    runtime = os.environ.get("SERVING_RUNTIME") or _settings(session, "serving").get("runtime", "tensorflow")
    _install(session, "serving" if runtime == "tensorflow" else f"serving-{runtime}")
    session.run("python", "-m", "mlplatform", "serve", *session.posargs, terminate_timeout=ENDING_SECONDS)


def _settings(session: nox.Session, section: str) -> dict[str, Any]:
    """A section of service.toml. One that cannot be read ends the session as it ends the program."""
    try:
        content: dict[str, Any] = tomllib.loads(Path("service.toml").read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        session.error(f"service.toml: not valid TOML: {error}")
    return content.get(section, {})


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
    _install(session, "dev", "training", "serving", "delivery", "data")
    session.run("pytest", *session.posargs)


@nox.session
def platform_tests(session: nox.Session) -> None:
    """Run the platform's own tests, or some: `nox -s platform_tests -- mlplatform/tests/store`."""
    _install(session, "dev", "training", "serving", "delivery", "data")
    by_default = "not nightly and not clients and not policies and not cluster"
    halves = {
        # Twice as many as cores: half of the time they wait for programs that they start.
        "parallel": (
            *("not serial", f"--numprocesses={min(4, 2 * (os.cpu_count() or 1))}"),
            *("--dist=loadgroup", "--no-loadscope-reorder"),
        ),
        "serial": ("serial",),
    }
    if session.posargs and session.posargs[0] not in halves:
        session.run("pytest", *session.posargs)
        return
    for half in session.posargs or halves:
        marker, *options = halves[half]
        # The contract of the model is part of `tests`.
        own = ("mlplatform/tests", "--ignore=mlplatform/tests/model_contract")
        session.run("pytest", *own, "-m", f"{marker} and {by_default}", *options)


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
    """Check style and types, and that requirements/*.txt hold what requirements/*.in name."""
    if unlocked := [line for name in _purposes() for line in _unlocked(name)]:
        session.error("; ".join(unlocked) + ": run `.venv/bin/nox -s lock`")
    _install(session, "dev", "training", "serving", "delivery", "data")
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


@nox.session
def update(session: nox.Session) -> None:
    """Merge the template's newest state, for review: `nox -s update`; `-- --checkout v0.3.0` takes a release."""
    _install(session, "update")
    if session.posargs[:1] == ["--link"]:
        _link(session, *session.posargs[1:])
        return
    if not Path(".cruft.json").exists():
        session.error("no .cruft.json; name the template once: `.venv/bin/nox -s update -- --link URL`")
    session.run("cruft", "update", "--skip-apply-ask", *session.posargs)
    session.run("python", "-m", "mlplatform.migrate")


def _link(session: nox.Session, *arguments: str) -> None:
    """Write .cruft.json, for a repository that cookiecutter made: with its own answers, at the release it is of."""
    service, template = _settings(session, "service"), _settings(session, "template")
    delivery = _settings(session, "delivery")
    answers = {
        "example": template.get("example", "digits"),
        "model_name": service["name"],
        "description": service["description"],
        "owning_team": service["team"],
        "artifact_bucket": delivery["storage_url"].removeprefix("s3://").partition("/")[0],
    }
    names = ("aws_region", "container_registry", "batch_job_queue", "kubernetes_namespace", "datadog_site")
    answers |= {name: delivery[name] for name in (*names, "training_device")}
    revision = () if "--checkout" in arguments else ("--checkout", f"v{template['version']}")
    session.run(
        *("cruft", "link", *arguments, *revision),
        *("--no-input", "--default-config", "--extra-context", json.dumps(answers)),
    )


@nox.session(venv_backend="none")
def lock(session: nox.Session) -> None:
    """Lock requirements/*.in with hashes, where nothing else changes: `nox -s lock -- --upgrade` takes the newest."""
    names = _purposes()
    # The GPU build of TensorFlow is never installed beside the other one: it follows their lock instead of shaping it.
    together = [name for name in names if not name.endswith("-gpu")]
    work = Path(session.create_tmp())
    common = work / "together.txt"
    # uv keeps the versions that it finds in its output, so each of these begins with what is locked now.
    common.write_text("".join(dict.fromkeys("".join(map(_locked, together)).splitlines(keepends=True))))
    _compile(session, [source for name in together for source in _sources(name)], common, *session.posargs)
    for name in names:
        (work / f"{name}.txt").write_text(_locked(name))
        _compile(session, _sources(name), work / f"{name}.txt", "--constraint", str(common), *session.posargs)
    for name in names:
        shutil.copyfile(work / f"{name}.txt", REQUIREMENTS / f"{name}.txt")


def _purposes() -> list[str]:
    return sorted(path.stem for path in REQUIREMENTS.glob("*.in") if not path.stem.endswith(".team"))


def _sources(name: str) -> list[Path]:
    """What a lock is made from: its .in file, and the team's own packages for this purpose.

    Those in training.team.in are in training-gpu.txt as well.
    """
    purposes = dict.fromkeys((name.partition("-")[0], name))
    own = [REQUIREMENTS / f"{purpose}.team.in" for purpose in purposes]
    return [REQUIREMENTS / f"{name}.in", *(path for path in own if path.exists())]


def _locked(name: str) -> str:
    """The packages of a lock with their versions, a line for each; where an update left a conflict, the template's."""
    path = REQUIREMENTS / f"{name}.txt"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    text = re.sub(r"^<{7} .*?^={7}$(.*?)^>{7} .*?$", r"\1", text, flags=re.DOTALL | re.MULTILINE)
    pins = re.findall(r"^([\w.-]+==[^\s;]+(?: ; [^\\\n]+?)?)\s*\\?$", text, re.MULTILINE)
    return "".join(f"{pin}\n" for pin in pins)


def _unlocked(name: str) -> Iterator[str]:
    """A sentence for each package of a purpose that its lock does not hold in a version that fits."""
    pins = [Requirement(line) for line in _locked(name).splitlines()]
    for source in _sources(name):
        for line in source.read_text(encoding="utf-8").splitlines():
            if text := line.partition("#")[0].strip():
                wanted = Requirement(text)
                pinned = [pin for pin in pins if canonicalize_name(pin.name) == canonicalize_name(wanted.name)]
                if not any(wanted.specifier.contains(str(pin.specifier)[2:], prereleases=True) for pin in pinned):
                    yield f"{source} names {text}, which {REQUIREMENTS / name}.txt does not hold"


def _compile(session: nox.Session, sources: list[Path], target: Path, *arguments: str) -> None:
    session.run(
        # The one beside nox: a shell has not to have `.venv/bin` on its PATH.
        *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version=3.11"),
        *("--generate-hashes", "--no-annotate", "--no-emit-index-url", "--custom-compile-command=nox -s lock"),
        *(*arguments, *map(str, sources), f"--output-file={target}"),
        external=True,
    )
