"""A team's package of a model of sequences: a digit as the strokes of a pen, of which each digit has its own number."""

from typing import TYPE_CHECKING

from model.dataset import DATA, LABELS, RECORD
from model.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    import keras

__all__ = ["DATA", "LABELS", "RECORD", "Hyperparameters", "build"]


def build(hyperparameters: Hyperparameters) -> "keras.Model":
    """The compiled network; see model/network.py."""
    # Imported here: TensorFlow takes seconds to start, and commands that only read hyperparameters run without it.
    from model import network

    return network.build(hyperparameters)
