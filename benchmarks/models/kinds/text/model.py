"""Text: TextVectorization with a vocabulary."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
from keras import layers

DATA = Path(__file__).parent / "data"
LABELS = ("ham", "spam")
RECORD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "text": {"type": "string"},
        "label": {"enum": list(LABELS)},
    },
    "required": ["text", "label"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Hyperparameters:
    """One of them."""

    learning_rate: float = field(default=2e-2, metadata={"gt": 0, "lt": 1, "description": "step size of Adam"})


def build(hyperparameters: Hyperparameters) -> keras.Model:
    """The compiled network."""
    text = keras.Input((), dtype="string", name="text")
    words = ["free", "win", "money", "hello", "meeting", "lunch"]
    x = layers.TextVectorization(vocabulary=words, output_mode="multi_hot")(text)
    probabilities = layers.Dense(len(LABELS), activation="softmax")(x)
    network = keras.Model(inputs={"text": text}, outputs=probabilities)
    network.compile(
        optimizer=keras.optimizers.Adam(hyperparameters.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return network
