"""The hyperparameters: what a training run may vary about the network."""

from dataclasses import dataclass, field


# Must not import TensorFlow or Keras: commands that only check or list parameters run where neither is installed.
@dataclass(frozen=True)
class Hyperparameters:
    """Each field is a parameter of the training: `learning_rate` is --learning-rate and TRAINING_LEARNING_RATE.

    `metadata` holds the help text as `description` and bounds: gt, ge, lt, le.
    """

    learning_rate: float = field(default=2e-2, metadata={"gt": 0, "lt": 1, "description": "step size of Adam"})
    units: int = field(default=32, metadata={"ge": 1, "le": 1024, "description": "width of the hidden layer"})
