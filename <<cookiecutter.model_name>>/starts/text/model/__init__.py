"""The team's package: what the data looks like and the network that learns from it. Nothing else has to be edited."""

from typing import TYPE_CHECKING

from model.dataset import DATA, LABELS, RECORD
from model.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    import keras

    from mlplatform.data.dataset import Split

__all__ = ["DATA", "LABELS", "RECORD", "Hyperparameters", "build"]


def build(hyperparameters: Hyperparameters, train: "Split | None" = None) -> "keras.Model":
    """The compiled network, with the vocabulary of the training split; see model/network.py."""
    # Imported here: TensorFlow takes seconds to start, and commands that only read hyperparameters run without it.
    from model import network

    return network.build(hyperparameters, train)
