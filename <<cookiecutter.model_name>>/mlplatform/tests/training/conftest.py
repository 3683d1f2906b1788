"""The pipeline with a model of the tests' own; `model_contract` takes the one that this repository holds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlplatform.tests import conftest
from mlplatform.tests.conftest import ROOT, Command

TOY = Path(__file__).parent / "toy"
# Which model the pipeline imports follows from the path: in this process, and in those that tests start.
PYTHONPATH = os.pathsep.join([str(TOY), str(ROOT)])
sys.path.insert(0, str(TOY))

import model  # noqa: E402

if not Path(model.__file__).is_relative_to(TOY):
    raise pytest.UsageError(
        "these tests take a model of their own: run them without model/tests, nox -s platform_tests"
    )


def run(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """As the other `run`, with the toy."""
    return conftest.run(directory, *arguments, **{"PYTHONPATH": PYTHONPATH, **environment})


@pytest.fixture
def command(command: Command) -> Command:
    """As the other `command`, with the toy."""
    return lambda *arguments, **environment: command(*arguments, **{"PYTHONPATH": PYTHONPATH, **environment})
