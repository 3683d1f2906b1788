"""The training loop: like keras.Model.fit, but it can stop between any two steps and go on as if it had not.

Keras's own BackupAndRestore goes on at the start of an epoch and forgets early stopping, the learning-rate schedule and
the position in the data. Here all of it is in the checkpoint, and the order of the data follows from seed and epoch.
"""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mlplatform.contract.errors import PipelineError
from mlplatform.contract.parameters import TrainingParameters
from mlplatform.contract.stopping import Stop
from mlplatform.data.dataset import Split
from mlplatform.training import state, vocabularies
from mlplatform.training.callbacks import Callbacks
from mlplatform.training.checkpoints import Arrays, Checkpoint, Checkpoints, Position
from mlplatform.training.metrics import TrainingMetrics
from mlplatform.training.phases import WHOLE, Phase
from mlplatform.training.progress import Progress

log = logging.getLogger(__name__)
# AWS Batch kills 30 s after SIGTERM, other schedulers after 20 s or so; a step and the exit need their share of it.
SAVING_SECONDS = 15.0
# Batches whose examples are sorted by length together: of fewer, more of a batch is padding; of more, batches are less
# a random choice.
BATCHES_BY_LENGTH = 50


def fit(
    network: keras.Model,
    phases: Sequence[Phase],
    data: tuple[Split, Split],
    parameters: TrainingParameters,
    checkpoints: Checkpoints,
    stop: Stop,
    metrics: TrainingMetrics | None = None,
) -> Position:
    """Train through all phases and return the position at the end; the network then holds the weights to be used.

    data: the train and the validation split. Resumes from the newest checkpoint. Raises Stopped, after saving one, if
    the process is told to stop.
    """
    newest = checkpoints.newest()
    position = newest.position if newest else Position()
    if newest:
        # Before anything is traced, which would look words up in the tables of before.
        vocabularies.restore(network, newest.vocabularies)
    for number, phase in enumerate(phases):
        # Also of phases that are done: what is trainable may follow from all of them.
        phase.begin(network)
        if number < position.phase:
            continue
        if number > position.phase:
            position = position.next_phase()
        if len(phases) > 1:
            log.info("train: phase %d/%d, %s", number + 1, len(phases), phase.name)
        epochs = position.began + sum(later.length(parameters) for later in phases[number:])
        fitting = Fitting(network, data, parameters, phase, position, epochs, metrics)
        if newest and newest.position.phase == number:
            fitting.resume(newest)
        fitting.run(checkpoints, stop)
    return position


class Fitting:
    """One phase of a training, of a compiled network."""

    def __init__(
        self,
        network: keras.Model,
        data: tuple[Split, Split],
        parameters: TrainingParameters,
        phase: Phase = WHOLE[0],
        position: Position | None = None,
        epochs: int = 0,
        metrics: TrainingMetrics | None = None,
    ) -> None:
        """data: the train and the validation split. epochs: of all phases, for the progress."""
        self._metrics = metrics or TrainingMetrics()
        self.network = network
        self.train, self.validation = data
        self.parameters = parameters
        self.phase = phase
        self.steps = _steps(self.train, parameters.batch_size)
        self.position = position or Position()
        self.end = self.position.began + phase.length(parameters)
        self.epochs = epochs or self.end
        self._best: Arrays = []
        if not network.trainable_variables:
            raise PipelineError(f"model: phase {phase.name!r} has nothing to train; leave some layers trainable")
        # Variables come into being when they are first needed; all of them must be there to be restored.
        network.optimizer.build(network.trainable_variables)
        network.test_on_batch(*self.train.take(np.zeros(1, np.int64)))
        network.make_train_function()
        self._variables = state.variables(network, self.train)
        self._vocabularies = vocabularies.of(network)
        self._callbacks = Callbacks(phase.callbacks, network)
        self._callbacks.begin(phase.length(parameters), self.steps)

    def rehearse(self) -> None:
        """One training step, one validation and one read-out of the metrics, as `run` does them; nothing is kept."""
        distribute = tf.distribute.get_strategy().experimental_distribute_dataset
        noted = self._callbacks.state()
        self.network.reset_metrics()
        self._callbacks.epoch_begins(0)
        self._callbacks.step_begins(0)
        self.network.train_function(iter(distribute(self._shuffled())))
        self._callbacks.step_ends(0)
        metrics = self._metrics_of_epoch()
        self._callbacks.check_monitored(metrics)
        self._callbacks.epoch_ends(0, metrics)
        self._callbacks.state()
        self._callbacks.end()
        self._callbacks.restore(*noted)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Take up where a checkpoint of this phase was saved."""
        _assign(self._variables, checkpoint.variables)
        self._best = checkpoint.best
        self._callbacks.restore(checkpoint.callbacks, checkpoint.noted)
        self.position.resumed += 1
        place = f"epoch {self.position.epoch + 1}/{self.epochs} step {self.position.step}/{self.steps}"
        log.info("train: resuming from a checkpoint at %s", place)

    def run(self, checkpoints: Checkpoints, stop: Stop) -> Position:
        """Train to the end and return the position there; the network then holds the weights to be used.

        Raises Stopped, after saving a checkpoint, if the process is told to stop.
        """
        if not self._finished():
            with stop.deferred():
                self._train(checkpoints, stop)
                # What follows takes a while, and a stop ends it at once.
                self._save(checkpoints)
                stop.obey()
        if self._best:
            _assign(self.network.variables, self._best)
            log.info("train: using the weights of epoch %d, which has the best val_loss", self.position.best_epoch + 1)
        else:
            self.network.optimizer.finalize_variable_values(self.network.trainable_variables)
        self._callbacks.end()
        return self.position

    def _train(self, checkpoints: Checkpoints, stop: Stop) -> None:
        position, parameters = self.position, self.parameters
        progress = Progress(self.epochs, self.steps, parameters.progress_seconds, self._metrics)
        distribute = tf.distribute.get_strategy().experimental_distribute_dataset
        batches = iter(distribute(self._shuffled()))
        saved = ticked = time.monotonic()
        metrics_of_epoch = _arrays(self.network.metrics_variables) if position.step else []
        while not self._finished():
            self.network.reset_metrics()
            if metrics_of_epoch:
                _assign(self.network.metrics_variables, metrics_of_epoch)
                metrics_of_epoch = []
            if not position.step:
                self._callbacks.epoch_begins(position.epoch - position.began)
            while position.step < self.steps and not position.stopped:
                self._callbacks.step_begins(position.step)
                self.network.train_function(batches)
                self._callbacks.step_ends(position.step)
                position.step += 1
                position.stopped = self._callbacks.stopped
                now = time.monotonic()
                position.seconds += now - ticked
                ticked = now
                progress.step(position.epoch, position.step, lambda: _numbers(self.network.get_metrics_result()))
                due = parameters.checkpoint_seconds and now - saved >= parameters.checkpoint_seconds
                if stop.asked:
                    self._save_and_stop(checkpoints, stop)
                elif due and self._is_sound() and checkpoints.save(self._serial(), self._checkpoint()):
                    saved = now
            # Not saved while validating: the network's metrics are those of the validation then.
            self._end_epoch(progress, checkpoints)

    def _save(self, checkpoints: Checkpoints) -> bool:
        return checkpoints.save_within(SAVING_SECONDS, self._serial(), self._checkpoint())

    def _save_and_stop(self, checkpoints: Checkpoints, stop: Stop) -> None:
        if self._is_sound() and self._save(checkpoints):
            log.info("train: stopping; a checkpoint is saved; the same command resumes from it")
        else:
            log.warning("train: stopping; nothing could be saved; the same command resumes from the checkpoint before")
        stop.obey()

    def _is_sound(self) -> bool:
        """Whether the loss of this epoch and all weights are numbers: a checkpoint of others helps nobody."""
        if not math.isfinite(_numbers(self.network.get_metrics_result()).get("loss", 0.0)):
            return False
        # The loss is that before a step, so weights can be worse than it says.
        return has_finite_weights(self.network)

    def _end_epoch(self, progress: Progress, checkpoints: Checkpoints) -> None:
        position, parameters = self.position, self.parameters
        metrics = self._metrics_of_epoch()
        for name in ("loss", "val_loss"):
            if not math.isfinite(metrics[name]):
                raise PipelineError(
                    f"train: {name} is {metrics[name]} after epoch {position.epoch + 1}; lower the learning rate, look "
                    "for inputs that are not scaled and for a logarithm or division by 0 in model/; the last good "
                    f"checkpoint stays in {checkpoints.url}"
                )
        position.history.append(metrics)
        progress.epoch(position.epoch, metrics)
        if metrics["val_loss"] < position.best_loss:
            position.best_loss, position.best_epoch = metrics["val_loss"], position.epoch
            if parameters.patience:
                self._best = self._weights_to_use()
        self._lower_learning_rate()
        self._callbacks.epoch_ends(position.epoch - position.began, metrics)
        position.stopped = position.stopped or self._callbacks.stopped
        position.epoch, position.step = position.epoch + 1, 0

    def _metrics_of_epoch(self) -> dict[str, float]:
        """Those of the training, and of a validation now."""
        metrics = _numbers(self.network.get_metrics_result())
        on_validation = evaluate(self.network, self.validation, self.parameters.batch_size)
        return metrics | {f"val_{name}": value for name, value in on_validation.items()}

    def _weights_to_use(self) -> Arrays:
        """Copies of the weights that a run ending now would use: an optimiser with use_ema has averages of its own."""
        raw = _arrays(self.network.variables)
        self.network.optimizer.finalize_variable_values(self.network.trainable_variables)
        used = _arrays(self.network.variables)
        _assign(self.network.variables, raw)
        return used

    def _lower_learning_rate(self) -> None:
        """Multiply the learning rate after `plateau_patience` epochs without a better validation loss."""
        position, parameters = self.position, self.parameters
        waited = position.epoch - max(position.best_epoch, position.reduced_epoch)
        if parameters.plateau_patience and waited >= parameters.plateau_patience:
            position.reduced_epoch = position.epoch
            rate = float(keras.ops.convert_to_numpy(self.network.optimizer.learning_rate)) * parameters.plateau_factor
            self.network.optimizer.learning_rate = rate
            log.info("train: no better val_loss for %d epochs, learning rate is now %.3g", waited, rate)

    def _finished(self) -> bool:
        position, patience = self.position, self.parameters.patience
        stale = position.epoch - 1 - position.best_epoch
        stopped = position.stopped and not position.step
        return position.epoch >= self.end or stopped or bool(patience and position.history and stale >= patience)

    def _serial(self) -> int:
        return self.position.epoch * (self.steps + 1) + self.position.step

    def _checkpoint(self) -> Checkpoint:
        variables = _arrays(self._variables)
        position = Position(**{**vars(self.position), "history": list(self.position.history)})
        return Checkpoint(position, variables, self._best, self._vocabularies, *self._callbacks.state())

    def _shuffled(self) -> tf.data.Dataset:
        """Shuffled batches from the position to the end of the phase's last epoch."""
        split, phase, size, seed = self.train, self.phase, self.parameters.batch_size, self.parameters.seed
        first_epoch, first_step, end = self.position.epoch, self.position.step, self.end
        lengths = split.item_counts() if split.lists else None

        def batches() -> Iterator[tuple[Any, ...]]:
            for epoch in range(first_epoch, end):
                indices = order(len(split), seed, epoch)
                if lengths is not None:
                    indices = by_length(indices, lengths, size, seed, epoch)
                for at in range(first_step * size if epoch == first_epoch else 0, len(split), size):
                    inputs, truth = split.take(indices[at : at + size])
                    yield (inputs, truth, phase.weights(truth)) if phase.weigh else (inputs, truth)

        return _from_generator(batches, split, (end - first_epoch) * self.steps - first_step, bool(phase.weigh))


def has_finite_weights(network: keras.Model) -> bool:
    """Whether all weights that are learned are numbers."""
    return all(
        bool(keras.ops.all(keras.ops.isfinite(weight)))
        for weight in network.trainable_weights
        if keras.backend.is_float_dtype(weight.dtype)
    )


def evaluate(network: keras.Model, split: Split, batch_size: int) -> dict[str, float]:
    """`loss` and the other metrics over a split."""
    return _numbers(network.evaluate(_in_order(split, batch_size), verbose=0, return_dict=True))


def predict(network: keras.Model, split: Split, batch_size: int) -> Any:
    """What the network gives, (examples, ...), for a split, in its order; of several outputs by their names."""
    return network.predict(_in_order(split, batch_size).map(lambda x, _: x), verbose=0)


def order(examples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order in which an epoch (from 0) uses the examples: a permutation that follows from seed and epoch alone."""
    return np.random.default_rng([seed, epoch]).permutation(examples)


def by_length(
    indices: NDArray[np.int64], lengths: NDArray[np.int64], size: int, seed: int, epoch: int
) -> NDArray[np.int64]:
    """The examples of an epoch in another order, in which those of a batch of a size are of about the same length.

    lengths: of all examples. Of so many batches at a time the examples are sorted by length; the batches are in random
    order, but for the last one if it is not full. It follows from seed and epoch as `order` does.
    """
    random = np.random.default_rng([seed, epoch, 1])
    pieces = [np.empty(0, np.int64)]
    for start in range(0, len(indices), BATCHES_BY_LENGTH * size):
        several = indices[start : start + BATCHES_BY_LENGTH * size]
        several = several[np.argsort(lengths[several], kind="stable")]
        full = len(several) - len(several) % size
        pieces += [random.permutation(several[:full].reshape(-1, size)).reshape(-1), several[full:]]
    return np.concatenate(pieces)


def _in_order(split: Split, batch_size: int) -> tf.data.Dataset:
    def batches() -> Iterator[tuple[dict[str, Any], Any]]:
        for at in range(0, len(split), batch_size):
            yield split.take(np.arange(at, min(at + batch_size, len(split))))

    return _from_generator(batches, split, _steps(split, batch_size))


def _steps(split: Split, batch_size: int) -> int:
    return -(-len(split) // batch_size)


def _from_generator(batches: Any, split: Split, count: int, weighed: bool = False) -> tf.data.Dataset:
    inputs, truth = split.take(np.zeros(1, np.int64))
    shapes = {
        name: (None, None, *array.shape[2:]) if name in split.lists else (None, *array.shape[1:])
        for name, array in inputs.items()
    }
    signature: tuple[Any, ...] = (
        {name: tf.TensorSpec(shapes[name], _tensor_dtype(array)) for name, array in inputs.items()},
        tf.nest.map_structure(lambda array: tf.TensorSpec((None, *array.shape[1:]), array.dtype), truth),
    )
    if weighed:
        signature = (*signature, tf.TensorSpec((None,), tf.float32))
    # Two batches ahead: the next one is gathered from disk while the current one is computed.
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(2)
    return dataset.apply(tf.data.experimental.assert_cardinality(count))


def _tensor_dtype(array: NDArray[Any]) -> Any:
    return tf.string if array.dtype.kind in "SO" else array.dtype


def _arrays(variables: Any) -> Arrays:
    """Copies: what TensorFlow hands out may be its own memory, which the next step changes."""
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def _assign(variables: Any, arrays: Arrays) -> None:
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def _numbers(metrics: Any) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}
