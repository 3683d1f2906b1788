"""A second model, for tests: a tabular one with thirteen scalar inputs and three classes."""

from model.dataset import DATA, LABELS, RECORD
from model.network import Hyperparameters, build

__all__ = ["DATA", "LABELS", "RECORD", "Hyperparameters", "build"]
