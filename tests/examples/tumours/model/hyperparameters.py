"""The hyperparameters: what a training run may vary about the model."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Hyperparameters:
    """Each field is a parameter of the training: `trees` is --trees and TRAINING_TREES."""

    features: int = field(default=20, metadata={"ge": 1, "le": 30, "description": "measurements that are used"})
    trees: int = field(default=100, metadata={"ge": 1, "le": 10_000, "description": "trees of the forest"})
    least_leaf: int = field(default=2, metadata={"ge": 1, "le": 1000, "description": "rows in a leaf at least"})
