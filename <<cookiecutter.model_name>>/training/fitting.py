"""The training loop."""

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.dataset import Split

log = logging.getLogger(__name__)

History = list[dict[str, float]]


@dataclass
class Position:
    """Where a run is: `epoch` epochs and `step` steps of the next are done; `history` has the metrics of each epoch."""

    epoch: int = 0
    step: int = 0
    history: History = field(default_factory=list)


def fit(network: keras.Model, train: Split, validation: Split, epochs: int, batch_size: int, seed: int) -> History:
    """Train a compiled network and return, per epoch, `loss` and the other metrics and each as `val_<name>`."""
    position = Position()
    steps = _steps(train, batch_size)
    batches = iter(_dataset(train, batch_size, seed, position, epochs))
    network.make_train_function()
    while position.epoch < epochs:
        network.reset_metrics()
        while position.step < steps:
            network.train_function(batches)
            position.step += 1
        metrics = _numbers(network.get_metrics_result())
        metrics |= {f"val_{name}": value for name, value in evaluate(network, validation, batch_size).items()}
        position.history.append(metrics)
        position.epoch, position.step = position.epoch + 1, 0
        shown = " ".join(f"{name}={value:.4f}" for name, value in metrics.items())
        log.info("epoch %d/%d %s", position.epoch, epochs, shown)
    network.optimizer.finalize_variable_values(network.trainable_variables)
    return position.history


def evaluate(network: keras.Model, split: Split, batch_size: int) -> dict[str, float]:
    """`loss` and the other metrics over a split."""
    return _numbers(network.evaluate(_in_order(split, batch_size), verbose=0, return_dict=True))


def predict(network: keras.Model, split: Split, batch_size: int) -> NDArray[np.float32]:
    """Probabilities (examples, classes) of a split, in its order."""
    return np.asarray(network.predict(_in_order(split, batch_size).map(lambda x, _: x), verbose=0), np.float32)


def order(examples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order in which an epoch (from 0) uses the examples: a permutation that follows from seed and epoch alone."""
    return np.random.default_rng([seed, epoch]).permutation(examples)


def _dataset(split: Split, batch_size: int, seed: int, start: Position, epochs: int) -> tf.data.Dataset:
    """Shuffled batches from a position to the end of the last epoch."""
    position = Position(**asdict(start))

    def batches() -> Iterator[tuple[dict[str, Any], Any]]:
        for epoch in range(position.epoch, epochs):
            indices = order(len(split), seed, epoch)
            first = position.step * batch_size if epoch == position.epoch else 0
            for at in range(first, len(split), batch_size):
                yield split.take(indices[at : at + batch_size])

    total = (epochs - start.epoch) * _steps(split, batch_size) - start.step
    return _from_generator(batches, split, total)


def _in_order(split: Split, batch_size: int) -> tf.data.Dataset:
    def batches() -> Iterator[tuple[dict[str, Any], Any]]:
        for at in range(0, len(split), batch_size):
            yield split.take(np.arange(at, min(at + batch_size, len(split))))

    return _from_generator(batches, split, _steps(split, batch_size))


def _steps(split: Split, batch_size: int) -> int:
    return -(-len(split) // batch_size)


def _from_generator(batches: Any, split: Split, count: int) -> tf.data.Dataset:
    inputs, labels = split.take(np.zeros(1, np.int64))
    signature = (
        {name: tf.TensorSpec((None, *array.shape[1:]), _tensor_dtype(array)) for name, array in inputs.items()},
        tf.TensorSpec((None,), labels.dtype),
    )
    # Two batches ahead: the next one is gathered from disk while the current one is computed.
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(2)
    return dataset.apply(tf.data.experimental.assert_cardinality(count))


def _tensor_dtype(array: NDArray[Any]) -> Any:
    return tf.string if array.dtype.kind == "S" else array.dtype


def _numbers(metrics: Any) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}
