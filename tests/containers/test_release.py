"""A whole release in containers, by one command of a rendered repository."""

import os
import re
from pathlib import Path

import pytest
from engine import Engine
from rendered import nox

pytestmark = pytest.mark.docker


def test_a_release_from_a_changed_parameter_to_an_answer_is_one_command(
    engine: Engine, repository: Path, tmp_path: Path
) -> None:
    # The client that builds with BuildKit may not be the first on PATH.
    (tmp_path / "docker").symlink_to(engine.client)
    settings = {**engine.environment, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    result = nox(
        repository,
        *("-s", "release", "--", "--epochs", "3", "--minimum-accuracy", "0.5"),
        # The smaller of the serving images: what is tried here is the same for both.
        **{**settings, "DELIVERY_BASE_IMAGE": engine.base_image, "SERVING_RUNTIME": "litert"},
    )
    assert result.returncode == 0, result.stdout
    assert re.search(r"the gate is open for model [0-9a-f]{12}", result.stdout)
    assert re.search(r"it serves leaf-reader [0-9a-f]{12} and predicts 5 samples", result.stdout)
    steps = ("training image", "train", "gate", "serving image", "manifests", "start and ask", "in all")
    for step in steps:
        assert re.search(rf"^{step} +\d+\.\d$", result.stdout, re.MULTILINE), result.stdout[-3000:]
    assert engine.output("images", "--filter", "reference=127.0.0.1:*/play/*", "--quiet") == ""
