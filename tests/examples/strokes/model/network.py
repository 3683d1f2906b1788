"""The network: a recurrent layer that reads the strokes one after the other, however many there are."""

import keras
from keras import layers

from model.dataset import LABELS
from model.hyperparameters import Hyperparameters


def build(hyperparameters: Hyperparameters) -> keras.Model:
    """The compiled network.

    Input `strokes`: float32 (batch, strokes, 4), line, first and last column, ink, as in a record. Shorter lists of a
    batch are filled up with 0, which is masked. Output: float32 (batch, 10), probabilities in the order of LABELS.
    """
    strokes = keras.Input((None, 4), name="strokes")
    x = layers.Masking(mask_value=0.0)(strokes)
    x = layers.Rescaling([1 / 8, 1 / 8, 1 / 8, 1 / 16])(x)
    x = layers.Dense(hyperparameters.units // 2, activation="relu")(x)
    x = layers.GRU(hyperparameters.units)(x)
    # float32 even under mixed precision: float16 rounds small probabilities to zero.
    probabilities = layers.Dense(len(LABELS), activation="softmax", dtype="float32", name="probabilities")(x)

    network = keras.Model(inputs={"strokes": strokes}, outputs=probabilities)
    network.compile(
        optimizer=keras.optimizers.Adam(hyperparameters.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return network
