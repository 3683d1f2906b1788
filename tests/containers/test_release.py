"""A whole release in containers, by one command of a rendered repository."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from engine import Engine
from rendered import nox

pytestmark = pytest.mark.docker


def settings(engine: Engine, directory: Path) -> dict[str, str]:
    """Environment of a release in this engine."""
    # The client that builds with BuildKit may not be the first on PATH.
    (directory / "docker").symlink_to(engine.client)
    path = f"{directory}{os.pathsep}{os.environ['PATH']}"
    return {**engine.environment, "PATH": path, "DELIVERY_BASE_IMAGE": engine.base_image}


def test_a_release_from_a_changed_parameter_to_an_answer_is_one_command(
    engine: Engine, repository: Path, tmp_path: Path
) -> None:
    images = ("images", "--filter", "reference=127.0.0.1:*/play/*", "--format", "{{.Repository}}:{{.Tag}}")
    before = engine.output(*images)
    result = nox(
        repository,
        *("-s", "release", "--", "--epochs", "3", "--minimum-accuracy", "0.5"),
        # The smaller of the serving images: what is tried here is the same for both.
        **{**settings(engine, tmp_path), "SERVING_RUNTIME": "litert"},
    )
    assert result.returncode == 0, result.stdout
    assert re.search(r"the gate is open for model [0-9a-f]{12}", result.stdout)
    assert re.search(r"it serves leaf-reader [0-9a-f]{12} and predicts 5 samples", result.stdout)
    steps = ("training image", "train", "gate", "serving image", "manifests", "check manifests", "start and ask")
    for step in steps:
        assert re.search(rf"^{step} +\d+\.\d$", result.stdout, re.MULTILINE), result.stdout[-3000:]
    assert re.search(r"^in all +\d+\.\d$", result.stdout, re.MULTILINE)
    assert re.search(r"7 objects are valid in Kubernetes 1\.\d+\.\d+, 1\.\d+\.\d+, 1\.\d+\.\d+", result.stdout)
    assert engine.output(*images) == before


@pytest.mark.nightly
def test_a_job_that_is_killed_ends_the_release_with_the_reason_and_its_last_lines(
    engine: Engine, repository: Path, tmp_path: Path
) -> None:
    # Nobody waits for so many epochs.
    command = [sys.executable, "-m", "nox", "-s", "release", "--", "--epochs", "5000"]
    log = tmp_path / "log"
    with log.open("w") as output:
        release = subprocess.Popen(
            command, cwd=repository, env=settings(engine, tmp_path), stdout=output, stderr=subprocess.STDOUT
        )
        try:
            deadline = time.monotonic() + 600
            while not (found := training_in_its_second_epoch(engine, log.read_text(errors="replace"))):
                assert release.poll() is None and time.monotonic() < deadline, log.read_text(errors="replace")
                time.sleep(0.5)
            engine.run("kill", found)
            assert release.wait(120) == 1
        finally:
            release.kill()
            release.wait()
    said = log.read_text(errors="replace")
    end = said[said.index("submit: job ") :]
    assert re.match(r"submit: job [0-9a-f-]{36} failed: .*killed", end), end
    assert re.search(r"\nthe end of its log:\n(  .*\n)*  .*train: epoch \d+/5000", end), end
    assert "Traceback" not in end


def training_in_its_second_epoch(engine: Engine, said: str) -> str | None:
    """Name of the container of the job that a release speaks of, once it has trained for a while."""
    if job := re.search(r"job: ([0-9a-f-]{36}) in", said):
        # As moto calls them.
        for name in engine.output("ps", "--format", "{{.Names}}", "--filter", f"name={job[1]}").split():
            if "train: epoch 2/" in engine.run("logs", name, check=False).stdout:
                return name
    return None
