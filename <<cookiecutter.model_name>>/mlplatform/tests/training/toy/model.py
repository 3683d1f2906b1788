"""A package as model/ is: whether the sum of four numbers is positive."""

from dataclasses import dataclass, field
from pathlib import Path

import keras

DATA = Path(__file__).parent / "data"
LABELS = ("no", "yes")
RECORD = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "x": {"type": "array", "items": {"type": "number"}},
        "label": {"enum": list(LABELS)},
    },
    "required": ["x", "label"],
}


@dataclass(frozen=True)
class Hyperparameters:
    """One of them."""

    learning_rate: float = field(default=0.01, metadata={"gt": 0, "description": "step size"})


def build(hyperparameters: Hyperparameters) -> keras.Model:
    """With dropout, so that random state matters, and with an optimiser that has a state of its own."""
    x = keras.Input((4,), name="x")
    hidden = keras.layers.Dropout(0.2)(keras.layers.Dense(64, activation="relu")(x))
    network = keras.Model(inputs={"x": x}, outputs=keras.layers.Dense(2, activation="softmax")(hidden))
    network.compile(
        keras.optimizers.Adam(hyperparameters.learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return network
