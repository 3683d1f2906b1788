"""A package as model/ is, whose network takes text and looks it up in a table beside the weights."""

from dataclasses import dataclass, field
from pathlib import Path

import keras

DATA = Path(__file__).parent / "data"
LABELS = ("ham", "spam")
WORDS = {"ham": ("hello", "meeting", "lunch"), "spam": ("free", "win", "money")}
RECORD = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "text": {"type": "string"}, "label": {"enum": list(LABELS)}},
    "required": ["text", "label"],
}


@dataclass(frozen=True)
class Hyperparameters:
    """One of them."""

    learning_rate: float = field(default=0.05, metadata={"gt": 0, "description": "step size"})


def build(hyperparameters: Hyperparameters) -> keras.Model:
    """Which words are there, and a layer on top."""
    text = keras.Input((), dtype="string", name="text")
    words = [word for words in WORDS.values() for word in words]
    x = keras.layers.TextVectorization(vocabulary=words, output_mode="multi_hot")(text)
    network = keras.Model(inputs={"text": text}, outputs=keras.layers.Dense(2, activation="softmax")(x))
    network.compile(
        keras.optimizers.Adam(hyperparameters.learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return network
