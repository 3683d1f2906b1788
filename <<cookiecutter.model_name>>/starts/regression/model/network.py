"""The network: one hidden layer over ten measurements, each an input of its own."""

import keras
from keras import layers

from model.dataset import MEASUREMENTS
from model.hyperparameters import Hyperparameters

# About the mean and the standard deviation of the progression: what is learned lies around 0.
CENTRE, SCALE = 152.0, 77.0


def build(hyperparameters: Hyperparameters) -> keras.Model:
    """The compiled network.

    Inputs: one float32 (batch,) per measurement, as measured; the network joins and normalises them. Output: float32
    (batch, 1), the progression as it is in the data.
    """
    inputs = {name: keras.Input((), name=name) for name in MEASUREMENTS}
    x = layers.Concatenate()([layers.Reshape((1,))(column) for column in inputs.values()])
    means, deviations = zip(*MEASUREMENTS.values(), strict=True)
    x = layers.Normalization(mean=means, variance=[deviation**2 for deviation in deviations])(x)
    x = layers.Dense(hyperparameters.units, activation="relu")(x)
    progression = layers.Rescaling(SCALE, CENTRE, name="progression")(layers.Dense(1)(x))

    network = keras.Model(inputs=inputs, outputs=progression)
    network.compile(
        optimizer=keras.optimizers.Adam(hyperparameters.learning_rate),
        loss="mean_absolute_error",
        metrics=["root_mean_squared_error", "r2_score"],
    )
    return network
