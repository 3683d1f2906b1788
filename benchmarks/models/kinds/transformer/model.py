"""Tokens: an embedding and a block of a transformer."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
from keras import layers, ops

DATA = Path(__file__).parent / "data"
LABELS = ("none", "seven")
RECORD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "tokens": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 31}},
        "label": {"enum": list(LABELS)},
    },
    "required": ["tokens", "label"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Hyperparameters:
    """One of them."""

    learning_rate: float = field(default=3e-3, metadata={"gt": 0, "lt": 1, "description": "step size of Adam"})


def build(hyperparameters: Hyperparameters) -> keras.Model:
    """The compiled network."""
    tokens = keras.Input((16,), dtype="int32", name="tokens")
    x = layers.Embedding(32, 32)(tokens) + layers.Embedding(16, 32)(ops.arange(16))
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 8, dropout=0.1)(x, x))
    x = layers.LayerNormalization()(x + layers.Dense(32)(layers.Dense(64, activation="gelu")(x)))
    x = layers.GlobalMaxPooling1D()(x)
    probabilities = layers.Dense(len(LABELS), activation="softmax")(x)
    network = keras.Model(inputs={"tokens": tokens}, outputs=probabilities)
    network.compile(
        optimizer=keras.optimizers.Adam(hyperparameters.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return network
