"""The models of the template import no TensorFlow before a network is built: delivery commands run without it."""

import subprocess
import sys
from pathlib import Path

import pytest

TEMPLATE = Path(__file__).parents[1]


@pytest.mark.parametrize("root", ["<<cookiecutter.model_name>>", "tests/examples/wine"])
def test_a_model_and_its_hyperparameters_load_without_tensorflow(root: str) -> None:
    program = """
import sys
sys.modules |= {"tensorflow": None, "keras": None}
import model
print(model.Hyperparameters())
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=TEMPLATE / root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Hyperparameters(learning_rate=")
