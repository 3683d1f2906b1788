"""What TensorFlow runs on, set once per process before the first operation."""

import keras
import tensorflow as tf


def prepare_tensorflow(seed: int) -> None:
    """Fix every random state from the seed, and make operations repeatable: same data and seed, same weights."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
