"""The hyperparameters: what a training run may vary about the network."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Hyperparameters:
    """Each field is a parameter of the training: `learning_rate` is --learning-rate and TRAINING_LEARNING_RATE."""

    learning_rate: float = field(default=2e-3, metadata={"gt": 0, "lt": 1, "description": "step size of Adam"})
    filters: int = field(default=16, metadata={"ge": 1, "le": 256, "description": "filters of the first convolution"})
