"""Networks with Keras's layers, trained for a step, exported, and loaded as the server loads them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from mlplatform.contract.targets import Classes
from mlplatform.runtime.call import BATCHES
from mlplatform.training.export import Exported, export

pytestmark = [pytest.mark.apart, pytest.mark.long]

ROWS = 16
TARGET = Classes("label", "abc")
RANDOM = np.random.default_rng(0)
NUMBERS = RANDOM.normal(size=(ROWS, 6)).astype(np.float32)
SERIES = RANDOM.normal(size=(ROWS, 5, 4)).astype(np.float32)
IMAGES = RANDOM.uniform(0, 1, (ROWS, 8, 8, 3)).astype(np.float32)
TOKENS = RANDOM.integers(0, 6, (ROWS, 5)).astype(np.int32)
TEXTS = np.array([b"free money", b"a meeting", b"", "größe".encode()] * 4, object)
COUNTS = np.array([1, 2, 3, 9] * 4, np.int64)


def _normalised(x: Any) -> Any:
    layer = layers.Normalization()
    layer.adapt(NUMBERS)
    return layer(x)


def _attention(x: Any) -> Any:
    return layers.Flatten()(layers.LayerNormalization()(layers.MultiHeadAttention(2, 3)(x, x) + x))


def _augmented(x: Any) -> Any:
    return layers.Flatten()(layers.RandomContrast(0.2)(layers.RandomRotation(0.2)(layers.RandomFlip()(x))))


def _text_sequence(x: Any) -> Any:
    tokens = layers.TextVectorization(vocabulary=["free", "money"], output_sequence_length=4)(x)
    return layers.GlobalAveragePooling1D()(layers.Embedding(6, 3)(tokens))


class Table(layers.Layer):  # type: ignore[misc]
    """A lookup table of TensorFlow's in a layer of a team's own."""

    def __init__(self) -> None:
        super().__init__()
        entries = tf.lookup.KeyValueTensorInitializer(["free money"], tf.constant([1], tf.int64))
        self.table = tf.lookup.StaticHashTable(entries, default_value=0)

    def call(self, inputs: Any) -> Any:
        return tf.one_hot(self.table.lookup(inputs), 2)

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor((*inputs.shape, 2), "float32")


def _half_precision(x: Any) -> Any:
    pixels = layers.SeparableConv2D(4, 3, dtype="mixed_float16")(x)
    return layers.GlobalAveragePooling2D()(layers.BatchNormalization(dtype="mixed_float16")(pixels))


Features = Callable[[Any], Any]
KINDS: dict[str, tuple[Any, Features]] = {
    "TextVectorization": (TEXTS, layers.TextVectorization(vocabulary=["free", "money"], output_mode="multi_hot")),
    "TextVectorization and Embedding": (TEXTS, _text_sequence),
    "StringLookup": (TEXTS, layers.StringLookup(vocabulary=["a meeting"], output_mode="one_hot")),
    "IntegerLookup": (COUNTS, layers.IntegerLookup(vocabulary=[1, 2], output_mode="one_hot")),
    "Hashing": (TEXTS[:, None], layers.Hashing(4, output_mode="one_hot")),
    "Normalization": (NUMBERS, _normalised),
    "Discretization": (NUMBERS[:, 0], layers.Discretization(bin_boundaries=[-1.0, 0.0, 1.0], output_mode="one_hot")),
    "CategoryEncoding": (TOKENS, layers.CategoryEncoding(6, output_mode="multi_hot")),
    "augmentation": (IMAGES, _augmented),
    "LSTM": (SERIES, layers.LSTM(4)),
    "GRU": (SERIES, layers.GRU(4)),
    "MultiHeadAttention": (SERIES, _attention),
    "Embedding with a mask": (TOKENS, lambda x: layers.LSTM(4)(layers.Embedding(6, 3, mask_zero=True)(x))),
    "Bidirectional with a mask": (
        TOKENS,
        lambda x: layers.Bidirectional(layers.GRU(4))(layers.Embedding(6, 3, mask_zero=True)(x)),
    ),
    "a table of TensorFlow's": (TEXTS, lambda x: Table()(x)),
    "half precision": (IMAGES, _half_precision),
    "BatchNormalization": (NUMBERS, layers.BatchNormalization()),
    "Dropout and noise": (NUMBERS, lambda x: layers.GaussianNoise(0.5)(layers.Dropout(0.5)(x))),
}


def trained(values: Any, features: Features) -> keras.Model:
    """A classifier on these features, trained for a step."""
    keras.utils.set_random_seed(1)
    dtype = "string" if values.dtype == object else str(values.dtype)
    x = keras.Input(values.shape[1:], dtype=dtype, name="x")
    built = keras.Model({"x": x}, layers.Dense(3, activation="softmax")(features(x)))
    built.compile(keras.optimizers.Adam(0.1), "sparse_categorical_crossentropy")
    built.train_on_batch({"x": tf.constant(values)}, np.arange(ROWS) % 3)
    return built


@pytest.mark.parametrize("kind", KINDS)
def test_the_server_predicts_what_keras_does_at_every_batch_size(kind: str, tmp_path: Path) -> None:
    values, features = KINDS[kind]
    network = trained(values, features)
    expected = np.asarray(network({"x": tf.constant(values)}, training=False))
    exported = Exported(tmp_path, export(network, TARGET, tmp_path))
    for rows in BATCHES:
        np.testing.assert_allclose(exported({"x": values[:rows]}), expected[:rows], atol=1e-6)


@pytest.mark.parametrize("kind", ["TextVectorization and Embedding", "augmentation", "BatchNormalization"])
def test_tensorflow_serving_s_two_loaders_take_it(kind: str, tmp_path: Path) -> None:
    values, features = KINDS[kind]
    network = trained(values, features)
    expected = np.asarray(network({"x": tf.constant(values)}, training=False))
    export(network, TARGET, tmp_path)
    loaded = tf.saved_model.load(str(tmp_path))
    outputs = loaded.signatures["serving_default"](x=tf.constant(values))
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=1e-6)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path)).signature_def["serving_default"]
        feed = {signature.inputs["x"].name: values}
        np.testing.assert_allclose(session.run(signature.outputs["probabilities"].name, feed), expected, atol=1e-6)


def test_the_optimiser_is_not_exported(tmp_path: Path) -> None:
    network = trained(NUMBERS, lambda x: layers.Dense(2000)(x))
    export(network, TARGET, tmp_path)
    weights = sum(array.nbytes for array in network.get_weights())
    exported = sum(path.stat().st_size for path in (tmp_path / "variables").iterdir())
    assert weights <= exported < 1.1 * weights
