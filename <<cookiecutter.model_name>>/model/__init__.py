"""The team's room: what the data looks like and the network that learns from it. Nothing else has to be edited."""

from model.dataset import DATA, LABELS, RECORD
from model.network import Hyperparameters, build

__all__ = ["DATA", "LABELS", "RECORD", "Hyperparameters", "build"]
