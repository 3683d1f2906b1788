"""The network: one hidden layer over the pixels, and a probability for each trait by itself."""

import keras
from keras import layers

from model.dataset import TRAITS
from model.hyperparameters import Hyperparameters


def build(hyperparameters: Hyperparameters) -> keras.Model:
    """The compiled network.

    Input `image`: float32 (batch, 8, 8), values 0 to 16 as in the data. Output: float32 (batch, 3), the probabilities
    of TRAITS in their order, which need not add up to 1.
    """
    image = keras.Input((8, 8), name="image")
    x = layers.Flatten()(layers.Rescaling(1 / 16)(image))
    x = layers.Dense(hyperparameters.units, activation="relu")(x)
    # float32 even under mixed precision: float16 rounds small probabilities to zero.
    traits = layers.Dense(len(TRAITS), activation="sigmoid", dtype="float32", name="traits")(x)

    network = keras.Model(inputs={"image": image}, outputs=traits)
    network.compile(
        optimizer=keras.optimizers.Adam(hyperparameters.learning_rate),
        loss="binary_crossentropy",
        metrics=["binary_accuracy"],
    )
    return network
