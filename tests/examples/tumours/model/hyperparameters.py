"""The hyperparameters: what a training run may vary about the model."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Hyperparameters:
    """Each field is a parameter of the training: --inverse-penalty, or in the environment."""

    inverse_penalty: float = field(default=0.1, metadata={"gt": 0, "description": "C: less of it, smaller weights"})
