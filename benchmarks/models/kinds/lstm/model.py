"""A series: an LSTM."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
from keras import layers

DATA = Path(__file__).parent / "data"
LABELS = ("falls", "rises")
RECORD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "steps": {"type": "array"},
        "label": {"enum": list(LABELS)},
    },
    "required": ["steps", "label"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Hyperparameters:
    """One of them."""

    learning_rate: float = field(default=2e-2, metadata={"gt": 0, "lt": 1, "description": "step size of Adam"})


def build(hyperparameters: Hyperparameters) -> keras.Model:
    """The compiled network."""
    steps = keras.Input((20, 3), name="steps")
    x = layers.LSTM(16)(steps)
    probabilities = layers.Dense(len(LABELS), activation="softmax")(x)
    network = keras.Model(inputs={"steps": steps}, outputs=probabilities)
    network.compile(
        optimizer=keras.optimizers.Adam(hyperparameters.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return network
