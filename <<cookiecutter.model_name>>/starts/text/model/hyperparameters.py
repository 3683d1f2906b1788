"""The hyperparameters: what a training run may vary about the network."""

from dataclasses import dataclass, field


# Must not import TensorFlow or Keras: commands that only check or list parameters run where neither is installed.
@dataclass(frozen=True)
class Hyperparameters:
    """Each field is a parameter of the training: `learning_rate` is --learning-rate and TRAINING_LEARNING_RATE.

    `metadata` holds the help text as `description` and bounds: gt, ge, lt, le.
    """

    learning_rate: float = field(default=2e-3, metadata={"gt": 0, "lt": 1, "description": "step size of Adam"})
    pieces: int = field(
        default=4000, metadata={"ge": 10, "le": 100_000, "description": "most frequent pieces of text that are known"}
    )
    dropout: float = field(default=0.5, metadata={"ge": 0, "lt": 1, "description": "share of pieces left out"})
