"""The devices TensorFlow runs on: all GPUs of the host, one GPU, or the CPU."""

import logging
from typing import Any

import keras
import tensorflow as tf

from mlplatform.contract.parameters import TrainingParameters

log = logging.getLogger(__name__)


def configure(parameters: TrainingParameters) -> None:
    """Set up TensorFlow for this process; has to come before anything that computes."""
    for gpu in tf.config.list_physical_devices("GPU"):
        # Otherwise TensorFlow takes all of a GPU's memory at once, and another process on the host starves.
        tf.config.experimental.set_memory_growth(gpu, True)
    if parameters.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy(parameters.precision)


def seed(parameters: TrainingParameters) -> None:
    """Fix Python's, NumPy's, TensorFlow's and Keras's random states: what is built next depends on the seed alone."""
    keras.utils.set_random_seed(parameters.seed)


def strategy() -> Any:
    """TensorFlow's distribution strategy: MirroredStrategy over several GPUs, else the default one."""
    gpus = tf.config.list_logical_devices("GPU")
    log.info("train: on %s", f"{len(gpus)} GPUs" if len(gpus) > 1 else "1 GPU" if gpus else "the CPU")
    return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()
