"""The network: one hidden layer over thirteen measurements, each an input of its own."""

import keras
from keras import layers

from model.dataset import LABELS, MEASUREMENTS
from model.hyperparameters import Hyperparameters


def build(hyperparameters: Hyperparameters) -> keras.Model:
    """The compiled network.

    Inputs: one float32 (batch,) per measurement, as measured; the network joins and normalises them. Output: float32
    (batch, 3), probabilities in the order of LABELS.
    """
    inputs = {name: keras.Input((), name=name) for name in MEASUREMENTS}
    x = layers.Concatenate()([layers.Reshape((1,))(column) for column in inputs.values()])
    means, deviations = zip(*MEASUREMENTS.values(), strict=True)
    x = layers.Normalization(mean=means, variance=[deviation**2 for deviation in deviations])(x)
    x = layers.Dense(hyperparameters.units, activation="relu")(x)
    probabilities = layers.Dense(len(LABELS), activation="softmax", name="probabilities")(x)

    network = keras.Model(inputs=inputs, outputs=probabilities)
    network.compile(
        optimizer=keras.optimizers.Adam(hyperparameters.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return network
