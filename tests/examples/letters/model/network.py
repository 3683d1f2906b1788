"""The network: two convolutions, and a vector of length 1 whose direction says which letter it is."""

import keras
from keras import layers

from model.dataset import SIZE
from model.hyperparameters import Hyperparameters


def build(hyperparameters: Hyperparameters) -> keras.Model:
    """The compiled network.

    Input `image`: float32 (batch, 16, 16), values 0 to 9 as in the data. Output: float32 (batch, SIZE), of length 1.
    """
    image = keras.Input((16, 16), name="image")
    x = layers.Reshape((16, 16, 1))(layers.Rescaling(1 / 9)(image))
    x = layers.Conv2D(hyperparameters.filters, 3, activation="relu", padding="same")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(2 * hyperparameters.filters, 3, activation="relu", padding="same")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Dense(SIZE, dtype="float32")(layers.Flatten()(x))
    letter = layers.UnitNormalization(dtype="float32", name="letter")(x)

    network = keras.Model(inputs={"image": image}, outputs=letter)
    # It compares the vectors of a batch with each other: near for the same letter, far for others.
    network.compile(optimizer=keras.optimizers.Adam(hyperparameters.learning_rate), loss=keras.losses.Circle())
    return network
