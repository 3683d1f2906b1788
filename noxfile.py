"""Sessions of the template's own side. They run in the environment of requirements/dev.txt, which holds nox as well."""

import os
import sys

import nox

# Where it is set, every process of the tests would compile TensorFlow and Keras again before it starts.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# A second environment per session would be a copy of the one that nox is in.
nox.options.default_venv_backend = "none"
# None by itself: `nox` lists them.
nox.options.sessions = []

TEMPLATE = "<<cookiecutter.model_name>>"


@nox.session
def demo(session: nox.Session) -> None:
    """Render into demo/, train, serve, and ask for a prediction: `-- DIRECTORY --example text`."""
    session.run(sys.executable, "tests/demo.py", *session.posargs, external=True)


@nox.session
def tests(session: nox.Session) -> None:
    """Run every test but the nightly ones; arguments go to pytest: `nox -s tests -- -m unit`."""
    command = ("-m", "pytest", *session.posargs) if session.posargs else ("tests/tiers.py",)
    session.run(sys.executable, *command, external=True)


@nox.session
def nightly(session: nox.Session) -> None:
    """Run what takes too long for every change, or depends on what others publish."""
    session.run(sys.executable, "-m", "pytest", "-m", "nightly", *session.posargs, external=True)


@nox.session
def cluster(session: nox.Session) -> None:
    """Release from a rendered repository against a real control plane of Kubernetes, built by Go (15 minutes, once)."""
    test = "tests/test_platform.py::test_releases_end_well_against_a_real_control_plane"
    session.run(sys.executable, "-m", "pytest", "-m", "nightly", test, *session.posargs, external=True)


@nox.session
def cluster_up(session: nox.Session) -> None:
    """Bring a cluster up whose nodes run containers, as root on Linux, until Ctrl-C: three nodes, or `-- 1`."""
    with session.chdir("tests"):
        # Interrupted, it removes what is left of the nodes, which takes longer than the half second that nox gives.
        session.run(
            *(sys.executable, "-m", "nodes.cluster", *session.posargs),
            external=True,
            interrupt_timeout=60,
            terminate_timeout=60,
        )


@nox.session
def cluster_nodes(session: nox.Session) -> None:
    """Release real containers into such a cluster, and count what callers lose when pods, nodes or API server go."""
    session.run(sys.executable, "-m", "pytest", "-m", "nodes", *session.posargs, "tests/nodes", external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style on both sides, the rendered one in place, and the types of the template's own.

    The rendered side's types need its packages, so its own lint checks them, which is one of the tests.
    """
    run = (sys.executable, "-m")
    session.run(*run, "ruff", "check", "--no-cache", ".", external=True)
    session.run(*run, "ruff", "format", "--no-cache", "--check", ".", external=True)
    session.run(*run, "mypy", external=True)
    with session.chdir(TEMPLATE):
        session.run(*run, "ruff", "check", "--no-cache", ".", external=True)
        session.run(*run, "ruff", "format", "--no-cache", "--check", ".", external=True)


@nox.session
def render_diff(session: nox.Session) -> None:
    """Show what a change does to rendered repositories: HEAD against the working tree, or `-- OLD [NEW]`."""
    session.run(sys.executable, "tests/render_diff.py", *session.posargs, external=True)


@nox.session
def golden(session: nox.Session) -> None:
    """Show where rendered repositories differ from tests/golden; `-- --update` writes down how they come out."""
    session.run(sys.executable, "tests/golden.py", *session.posargs, external=True)


@nox.session
def fleet(session: nox.Session) -> None:
    """Bring the template's newest state to many repositories, a branch in each: `-- LIST [--push]`."""
    session.run(sys.executable, "fleet.py", *session.posargs, external=True)


@nox.session
def bench_fleet(session: nox.Session) -> None:
    """Update a hundred repositories of earlier releases with teams' edits, and check each: `-- --repositories 20`."""
    session.run(sys.executable, "tests/fleets.py", *session.posargs, external=True)


@nox.session(venv_backend="uv", reuse_venv=True)
def bench_training(session: nox.Session) -> None:
    """Measure the pipeline's training loop against plain Keras, interleaved: `-- --rounds 3`."""
    for purpose in ("training", "dev"):
        session.install("--require-hashes", "-r", f"{TEMPLATE}/requirements/{purpose}.txt")
    session.run("python", "benchmarks/training/compare.py", *session.posargs)


@nox.session(venv_backend="uv", reuse_venv=True)
def bench_data(session: nox.Session) -> None:
    """Measure making datasets against DuckDB, Polars and pandas, interleaved: `-- --rows 200000 --rounds 3`."""
    session.install("--require-hashes", "-r", f"{TEMPLATE}/requirements/training.txt")
    session.install("duckdb==2.0.1", "polars==2.1.0", "pandas==3.1.1", "pyarrow")
    session.run("python", "benchmarks/data/compare.py", *session.posargs)


@nox.session(venv_backend="uv", reuse_venv=True)
def bench_models(session: nox.Session) -> None:
    """Take models of seven kinds from training to answers: `-- text lstm`, or all of them."""
    # One lock after the other: a version that both hold is the same in both.
    for purpose in ("training", "serving", "serving-litert"):
        session.install("--require-hashes", "-r", f"{TEMPLATE}/requirements/{purpose}.txt")
    session.run("python", "benchmarks/models/measure.py", *session.posargs)


@nox.session(venv_backend="uv", reuse_venv=True)
def bench_memory(session: nox.Session) -> None:
    """Measure what a serving container takes under load over what its model took: `-- text dense`."""
    for purpose in ("training", "serving", "serving-litert"):
        session.install("--require-hashes", "-r", f"{TEMPLATE}/requirements/{purpose}.txt")
    session.run("python", "benchmarks/models/memory.py", *session.posargs)


@nox.session
def bench_serving(session: nox.Session) -> None:
    """Measure our server against FastAPI, BentoML, LitServe, MLServer and Ray Serve: `-- --rounds 3 --minutes 8`."""
    # Interrupted, it ends servers that are frozen, which takes longer than the half second that nox gives.
    session.run(
        *(sys.executable, "benchmarks/serving/bench.py", *session.posargs),
        external=True,
        interrupt_timeout=60,
        terminate_timeout=60,
    )


@nox.session(venv_backend="uv", reuse_venv=True)
def bench_ghost(session: nox.Session) -> None:
    """Measure what a ghost costs the live service: `-- store/models/VERSION --rounds 60`."""
    session.install("--require-hashes", "-r", f"{TEMPLATE}/requirements/serving-litert.txt")
    session.run("python", "benchmarks/ghost/compare.py", *session.posargs)


@nox.session(venv_backend="uv", reuse_venv=True)
def bench_ghost_same(session: nox.Session) -> None:
    """Measure how fast a ghost looks that is the live model itself: `-- store/models/VERSION`."""
    session.install("--require-hashes", "-r", f"{TEMPLATE}/requirements/serving-litert.txt")
    session.run("python", "benchmarks/ghost/same.py", *session.posargs)


@nox.session
def bench_images(session: nox.Session) -> None:
    """Measure the images: time of each step, size by layer, rebuilds after a change of code and after a new model."""
    session.run(sys.executable, "benchmarks/images/measure.py", *session.posargs, external=True)


@nox.session
def bench_release_cycle(session: nox.Session) -> None:
    """Measure releases in containers, step by step: `-- --releases 3`; the first one builds the images."""
    session.run(sys.executable, "benchmarks/release_cycle/measure.py", *session.posargs, external=True)


@nox.session
def lock(session: nox.Session) -> None:
    """Lock what the tests run with and what runs in their containers; `-- --upgrade` takes the newest versions."""
    for source, target, python in (
        ("requirements/dev.in", "requirements/dev.txt", "3.11"),
        ("requirements/jenkins.in", "requirements/jenkins.txt", "3.11"),
        ("tests/services/requirements.in", "tests/services/requirements.txt", "3.13"),
    ):
        session.run(
            *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version", python),
            *("--generate-hashes", "--no-emit-index-url", "--custom-compile-command", "nox -s lock"),
            *("--output-file", target, *session.posargs, source),
            external=True,
        )
