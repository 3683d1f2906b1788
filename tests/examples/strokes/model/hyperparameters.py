"""The hyperparameters: what a training run may vary about the network."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Hyperparameters:
    """Each field is a parameter of the training: `learning_rate` is --learning-rate and TRAINING_LEARNING_RATE."""

    learning_rate: float = field(default=1e-2, metadata={"gt": 0, "lt": 1, "description": "step size of Adam"})
    units: int = field(default=64, metadata={"ge": 2, "le": 1024, "description": "width of the recurrent layer"})
