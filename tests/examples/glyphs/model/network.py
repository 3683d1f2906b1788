"""The network: one hidden layer over the pixels, and an output for each target."""

import keras
from keras import layers

from model.dataset import DIGITS, TRAITS
from model.hyperparameters import Hyperparameters


def build(hyperparameters: Hyperparameters) -> keras.Model:
    """The compiled network.

    Input `image`: float32 (batch, 8, 8), values 0 to 16 as in the data. Outputs, named like the targets: `digit`,
    float32 (batch, 10), the probabilities of DIGITS; `ink`, float32 (batch, 1), in per cent; `traits`, float32
    (batch, 3), the probabilities of TRAITS, which need not add up to 1.
    """
    image = keras.Input((8, 8), name="image")
    x = layers.Flatten()(layers.Rescaling(1 / 16)(image))
    x = layers.Dense(hyperparameters.units, activation="relu")(x)
    # float32 even under mixed precision: float16 rounds small probabilities to zero.
    digit = layers.Dense(len(DIGITS), activation="softmax", dtype="float32", name="digit")(x)
    share = layers.Dense(1, dtype="float32")(x)
    ink = layers.Rescaling(100.0, name="ink")(share)
    traits = layers.Dense(len(TRAITS), activation="sigmoid", dtype="float32", name="traits")(x)

    network = keras.Model(inputs={"image": image}, outputs={"digit": digit, "ink": ink, "traits": traits})
    network.compile(
        optimizer=keras.optimizers.Adam(hyperparameters.learning_rate),
        loss={
            "digit": "sparse_categorical_crossentropy",
            "ink": "mean_squared_error",
            "traits": "binary_crossentropy",
        },
        # A squared error in per cent is far larger than the others.
        loss_weights={"digit": 1.0, "ink": 0.01, "traits": 1.0},
        metrics={"digit": ["accuracy"], "ink": ["mean_absolute_error"], "traits": ["binary_accuracy"]},
    )
    return network
