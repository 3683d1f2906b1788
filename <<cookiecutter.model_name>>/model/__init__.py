"""The model: the schema of the data, and the network that learns from it. The team edits this package only."""

from model.dataset import DATA, LABELS, RECORD
from model.network import Hyperparameters, build

__all__ = ["DATA", "LABELS", "RECORD", "Hyperparameters", "build"]
