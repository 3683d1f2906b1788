"""The network: a small convolutional network, from raw pixels to the probability of each digit."""

import keras
from keras import layers

from model.dataset import LABELS
from model.hyperparameters import Hyperparameters


def build(hyperparameters: Hyperparameters) -> keras.Model:
    """The compiled network.

    Input `image`: float32 (batch, 8, 8), values 0 to 16 as in the data. The network scales them, so callers of the
    service send what the data holds. Output: float32 (batch, 10), probabilities in the order of LABELS.
    """
    image = keras.Input((8, 8), name="image")
    x = layers.Rescaling(1 / 16)(image)
    x = layers.Reshape((8, 8, 1))(x)
    x = layers.Conv2D(hyperparameters.filters, 3, padding="same", activation="relu")(x)
    x = layers.Conv2D(hyperparameters.filters, 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(2 * hyperparameters.filters, 3, padding="same", activation="relu")(x)
    x = layers.Flatten()(x)
    x = layers.Dropout(hyperparameters.dropout)(x)
    # float32 even under mixed precision: float16 rounds small probabilities to zero.
    probabilities = layers.Dense(len(LABELS), activation="softmax", dtype="float32", name="probabilities")(x)

    network = keras.Model(inputs={"image": image}, outputs=probabilities)
    network.compile(
        optimizer=keras.optimizers.Adam(hyperparameters.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return network
