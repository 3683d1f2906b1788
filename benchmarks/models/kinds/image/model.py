"""An image: a PNG as base64 that the network decodes, with augmentation."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras import layers

DATA = Path(__file__).parent / "data"
LABELS = ("dark", "bright")
RECORD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "png": {"type": "string"},
        "label": {"enum": list(LABELS)},
    },
    "required": ["png", "label"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Hyperparameters:
    """One of them."""

    learning_rate: float = field(default=2e-2, metadata={"gt": 0, "lt": 1, "description": "step size of Adam"})


class Decode(layers.Layer):  # type: ignore[misc]
    """PNGs as web-safe base64, string (batch,), to float32 (batch, 8, 8, 1) from 0 to 1."""

    def call(self, inputs: Any) -> Any:
        """See the class."""
        decoded = tf.map_fn(
            lambda text: tf.io.decode_png(tf.io.decode_base64(text), channels=1),
            inputs,
            fn_output_signature=tf.TensorSpec((8, 8, 1), tf.uint8),
        )
        return tf.cast(decoded, tf.float32) / 255.0

    def compute_output_shape(self, input_shape: Any) -> Any:
        """See keras.Layer."""
        return (*input_shape, 8, 8, 1)

    def compute_output_spec(self, inputs: Any) -> Any:
        """See keras.Layer: the decoding itself cannot be traced with Keras's tensors."""
        return keras.KerasTensor((*inputs.shape, 8, 8, 1), "float32")


def build(hyperparameters: Hyperparameters) -> keras.Model:
    """The compiled network."""
    png = keras.Input((), dtype="string", name="png")
    x = layers.RandomTranslation(0.1, 0.1)(layers.RandomFlip()(Decode()(png)))
    x = layers.Flatten()(layers.Conv2D(8, 3, activation="relu")(x))
    probabilities = layers.Dense(len(LABELS), activation="softmax")(x)
    network = keras.Model(inputs={"png": png}, outputs=probabilities)
    network.compile(
        optimizer=keras.optimizers.Adam(hyperparameters.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return network
