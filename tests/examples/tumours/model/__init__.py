"""A team's package of a model that scikit-learn trains: a table of thirty measurements, two classes."""

from typing import Any

from mlplatform.contract.examples import Examples
from model.dataset import DATA, LABELS, RECORD
from model.hyperparameters import Hyperparameters

__all__ = ["DATA", "LABELS", "RECORD", "Hyperparameters", "train"]


def train(hyperparameters: Hyperparameters, train: Examples, validation: Examples) -> Any:
    """The ONNX model, and what it was converted from; see model/pipeline.py."""
    # Imported here: scikit-learn takes seconds to start, and commands that only read hyperparameters run without it.
    from model import pipeline

    return pipeline.train(hyperparameters, train)
