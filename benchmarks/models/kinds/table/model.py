"""A table: a category by StringLookup, numbers, and a missing value by a sentinel."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
from keras import layers, ops

DATA = Path(__file__).parent / "data"
LABELS = ("buys", "leaves")
RECORD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "city": {"type": "string"},
        "age": {"type": "number"},
        "visits": {"type": "integer"},
        "label": {"enum": list(LABELS)},
    },
    "required": ["city", "age", "visits", "label"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Hyperparameters:
    """One of them."""

    learning_rate: float = field(default=2e-2, metadata={"gt": 0, "lt": 1, "description": "step size of Adam"})


def build(hyperparameters: Hyperparameters) -> keras.Model:
    """The compiled network."""
    city = keras.Input((), dtype="string", name="city")
    age, visits = keras.Input((), name="age"), keras.Input((), dtype="int32", name="visits")
    one_hot = layers.StringLookup(vocabulary=["Rome", "Oslo", "Lima"], output_mode="one_hot")(city)
    missing = ops.cast(age < 0, "float32")
    scaled = (1 - missing) * age / 40 - 1, ops.cast(visits, "float32") / 10 - 1
    numbers = ops.stack([*scaled, missing], axis=-1)
    x = layers.Dense(16, activation="relu")(layers.Concatenate()([one_hot, numbers]))
    network = keras.Model(
        inputs={"city": city, "age": age, "visits": visits}, outputs=layers.Dense(len(LABELS), activation="softmax")(x)
    )
    network.compile(
        optimizer=keras.optimizers.Adam(hyperparameters.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return network
