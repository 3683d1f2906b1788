"""The models of the template import no TensorFlow before a network is built: delivery commands run without it."""

import os
import subprocess
import sys

import pytest
from rendered import CHOICES, DEFAULTS, DIRECTORY, ROOT

REPOSITORY = ROOT / DIRECTORY


# A model of numbers needs NumPy, which delivery installs and the template's own tests do not.
@pytest.mark.parametrize("example", [example for example in CHOICES["example"] if example != "regression"])
def test_a_model_and_its_hyperparameters_load_without_tensorflow(example: str) -> None:
    program = """
import sys
sys.modules |= {"tensorflow": None, "keras": None}
import model
print(model.Hyperparameters())
"""
    first = REPOSITORY if example == DEFAULTS["example"] else REPOSITORY / "starts" / example
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, dict.fromkeys((first, REPOSITORY))))}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Hyperparameters(learning_rate=")
