"""A team's package of a model of image files, trained in two phases."""

from typing import TYPE_CHECKING

from model.dataset import DATA, LABELS, RECORD
from model.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    import keras

    from mlplatform.training.phases import Phase

__all__ = ["DATA", "LABELS", "RECORD", "Hyperparameters", "build", "phases"]


def build(hyperparameters: Hyperparameters) -> "keras.Model":
    """The compiled network; see model/network.py."""
    # Imported here: TensorFlow takes seconds to start, and commands that only read hyperparameters run without it.
    from model import network

    return network.build(hyperparameters)


def phases(hyperparameters: Hyperparameters, network: "keras.Model") -> "list[Phase]":
    """The phases of the training; see model/network.py."""
    from model import network as definition

    return definition.phases(hyperparameters, network)
