"""Imported by the process that test_kill forks from: the pipeline with the toy model, nothing of it computed yet."""

import sys
from pathlib import Path

# Which model the pipeline imports follows from the path.
sys.path.insert(0, str(Path(__file__).parent / "toy"))

from mlplatform.training.pipeline import run_command

__all__ = ["run_command"]
