"""A team's package of a model of vectors: whether two pictures in any fonts show the same letter."""

from typing import TYPE_CHECKING

from model.dataset import DATA, RECORD, TARGETS
from model.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    import keras

__all__ = ["DATA", "RECORD", "TARGETS", "Hyperparameters", "build"]


def build(hyperparameters: Hyperparameters) -> "keras.Model":
    """The compiled network; see model/network.py."""
    # Imported here: TensorFlow takes seconds to start, and commands that only read hyperparameters run without it.
    from model import network

    return network.build(hyperparameters)
