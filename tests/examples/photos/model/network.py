"""The network: it decodes the files itself, so that training and server see the same pixels. Base, then head."""

from typing import Any

import keras
import tensorflow as tf
from keras import layers

from mlplatform.training.phases import Phase
from model.dataset import LABELS
from model.hyperparameters import Hyperparameters

SIDE = 16


class Decoded(layers.Layer):  # type: ignore[misc]
    """Image files, string (batch,), as grey pixels, float32 (batch, SIDE, SIDE, 1) from 0 to 1."""

    def call(self, files: Any) -> Any:
        """See the class."""
        return tf.map_fn(_pixels, files, fn_output_signature=tf.TensorSpec((SIDE, SIDE, 1), tf.float32))

    def compute_output_spec(self, files: Any) -> Any:
        """Shape and dtype of what `call` returns: Keras cannot find them by tracing, for it has no files."""
        return keras.KerasTensor((*files.shape, SIDE, SIDE, 1), "float32")


def _pixels(file: Any) -> Any:
    # PNG, JPEG and others; an animation as its first picture.
    image = tf.io.decode_image(file, channels=1, expand_animations=False)
    return tf.image.resize(image, (SIDE, SIDE), antialias=True) / 255


def build(hyperparameters: Hyperparameters) -> keras.Model:
    """The compiled network.

    Input `photo`: string (batch,), the bytes of image files. Output: float32 (batch, 10), probabilities of LABELS.
    """
    photo = keras.Input((), dtype="string", name="photo")
    x = Decoded(name="decoded")(photo)
    # Only while it is trained.
    x = layers.RandomRotation(0.02)(layers.RandomTranslation(0.05, 0.05)(x))
    x = base()(x)
    # float32 even under mixed precision: float16 rounds small probabilities to zero.
    probabilities = layers.Dense(len(LABELS), activation="softmax", dtype="float32", name="probabilities")(x)
    network = keras.Model(inputs={"photo": photo}, outputs=probabilities)
    compiled(network, hyperparameters.learning_rate)
    return network


def base() -> keras.Model:
    """What a network trained elsewhere would be: features of pixels."""
    pixels = keras.Input((SIDE, SIDE, 1))
    x = layers.MaxPooling2D()(layers.Conv2D(16, 3, padding="same", activation="relu")(pixels))
    x = layers.MaxPooling2D()(layers.Conv2D(32, 3, padding="same", activation="relu")(x))
    return keras.Model(pixels, layers.Flatten()(x), name="base")


def phases(hyperparameters: Hyperparameters, network: keras.Model) -> list[Phase]:
    """The head on a base that stays as it is, then all of it, with smaller steps."""

    def head(network: keras.Model) -> None:
        network.get_layer("base").trainable = False
        compiled(network, hyperparameters.learning_rate)

    def all_of_it(network: keras.Model) -> None:
        network.get_layer("base").trainable = True
        compiled(network, hyperparameters.learning_rate / 2)

    return [Phase("head", head, epochs=hyperparameters.head_epochs), Phase("all", all_of_it)]


def compiled(network: keras.Model, learning_rate: float) -> None:
    """Compile the network."""
    network.compile(keras.optimizers.Adam(learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
