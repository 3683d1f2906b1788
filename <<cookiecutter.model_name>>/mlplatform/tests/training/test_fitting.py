"""The training loop: early stopping, learning rate, order of the data, progress, several devices."""

import logging
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from mlplatform.contract.errors import PipelineError
from mlplatform.contract.parameters import TrainingParameters
from mlplatform.contract.stopping import Stop, Stopped
from mlplatform.data.dataset import Split
from mlplatform.store.storage import LocalStorage
from mlplatform.tests.conftest import ROOT
from mlplatform.training.checkpoints import Checkpoints, Position
from mlplatform.training.fitting import fit as fit_phases
from mlplatform.training.fitting import order
from mlplatform.training.phases import WHOLE, Phase

pytestmark = pytest.mark.long

Fit = Callable[..., tuple[Position, keras.Model]]


@pytest.fixture
def split(tmp_path: Path) -> Split:
    """100 examples in two shards; the label is whether x is positive."""
    (tmp_path / "train").mkdir()
    x = np.random.default_rng(0).normal(size=(100, 1)).astype(np.float32)
    for shard, rows in enumerate((slice(0, 60), slice(60, 100))):
        columns = {"x": x[rows], "label": (x[rows, 0] > 0).astype(np.int32), "id": np.full(len(x[rows]), b"e")}
        for name, column in columns.items():
            np.save(tmp_path / "train" / f"{shard:05}.{name}.npy", column)
    return Split(tmp_path, "train", ["x"])


def network(learning_rate: float) -> keras.Model:
    keras.utils.set_random_seed(1)
    x = keras.Input((1,), name="x")
    y = keras.layers.Dense(2, activation="softmax")(keras.layers.Dropout(0.5)(keras.layers.Dense(8)(x)))
    built = keras.Model(inputs={"x": x}, outputs=y)
    built.compile(keras.optimizers.Adam(learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return built


class Noise(keras.layers.Layer):  # type: ignore[misc]
    """Draws from Keras's global seed generator, and counts in a variable that Keras does not know of."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = [(tf.Variable(0.0, trainable=False),)]

    def call(self, inputs: Any, training: bool = False) -> Any:
        count = self.hidden[0][0]
        if training:
            count.assign_add(1.0)
            return inputs + keras.random.normal(keras.ops.shape(inputs)) / (1.0 + count)
        return inputs


class TwoOptimizers(keras.Model):  # type: ignore[misc]
    """The last layer has an optimiser of its own, which Keras knows nothing of."""

    def compile(self, last: Any = None, **given: Any) -> None:
        super().compile(**given)
        self.last = last

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            predicted = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=predicted)
        variables = self.trainable_variables
        gradients = tape.gradient(loss, variables)
        self.optimizer.apply_gradients(zip(gradients[:-2], variables[:-2], strict=True))
        self.last.apply_gradients(zip(gradients[-2:], variables[-2:], strict=True))
        return self.compute_metrics(x, y, predicted)


def with_hidden_state(learning_rate: float) -> keras.Model:
    """State in every place where a network may have it."""
    keras.utils.set_random_seed(1)
    x = keras.Input((1,), name="x")
    hidden = keras.layers.BatchNormalization()(keras.layers.Dense(8)(Noise()(x)))
    y = keras.layers.Dense(2, activation="softmax")(keras.layers.Dropout(0.5)(hidden))
    built = TwoOptimizers(inputs={"x": x}, outputs=y)
    built.compile(
        optimizer=keras.optimizers.Adam(learning_rate, use_ema=True),
        last=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 20)),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return built


@pytest.fixture
def fit(split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fit:
    """Train with some parameters; return where that ended and the network."""
    (tmp_path / "service.toml").write_text("")
    monkeypatch.setenv("SERVICE_TOML", str(tmp_path / "service.toml"))

    def run(
        stop: Stop | None = None,
        learning_rate: float = 0.01,
        build: Callable[[float], keras.Model] = network,
        phases: Sequence[Phase] = WHOLE,
        **parameters: Any,
    ) -> tuple[Position, keras.Model]:
        built = build(learning_rate)
        checkpoints = Checkpoints(LocalStorage(tmp_path / "store"), "r")
        reached = fit_phases(
            built, phases, (split, split), TrainingParameters(**parameters), checkpoints, stop or Stop()
        )
        # As the pipeline does with a run that has ended.
        checkpoints.clear()
        return reached, built

    return run


def test_each_epoch_has_its_own_order_that_follows_from_the_seed() -> None:
    assert sorted(order(50, 1, 0)) == list(range(50))
    np.testing.assert_array_equal(order(50, 1, 0), order(50, 1, 0))
    assert not np.array_equal(order(50, 1, 0), order(50, 1, 1))
    assert not np.array_equal(order(50, 1, 0), order(50, 2, 0))


def test_the_history_has_every_epoch_with_both_splits(fit: Fit) -> None:
    reached, _ = fit(epochs=3)
    assert len(reached.history) == 3
    assert set(reached.history[0]) == {"loss", "accuracy", "val_loss", "val_accuracy"}


def test_the_same_seed_gives_the_same_weights(fit: Fit) -> None:
    (_, one), (_, other) = fit(epochs=2), fit(epochs=2)
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_without_progress_training_ends_early_with_the_best_weights(fit: Fit) -> None:
    reached, trained = fit(epochs=50, patience=2, learning_rate=5.0)
    losses = [epoch["val_loss"] for epoch in reached.history]
    assert len(losses) < 50
    assert len(losses) - 1 - int(np.argmin(losses)) == 2
    assert reached.best_epoch == int(np.argmin(losses))
    assert trained.get_weights()


def test_the_learning_rate_is_lowered_on_a_plateau(fit: Fit) -> None:
    reached, trained = fit(epochs=8, plateau_patience=1, plateau_factor=0.1, learning_rate=5.0)
    assert reached.reduced_epoch >= 0
    assert float(keras.ops.convert_to_numpy(trained.optimizer.learning_rate)) < 5.0


def frozen(network: keras.Model) -> None:
    """Only the last layer learns."""
    for layer in network.layers[:-1]:
        layer.trainable = False
    network.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")


def all_of_it(network: keras.Model) -> None:
    """Every layer learns."""
    network.trainable = True
    network.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])


HEAD, REST = Phase("head", frozen, epochs=1, weigh=lambda truth: np.where(truth, 3.0, 1.0)), Phase("rest", all_of_it)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"patience": 2, "plateau_patience": 1, "learning_rate": 1.0},
        pytest.param({"build": with_hidden_state}, marks=pytest.mark.nightly),
        {"phases": (HEAD, REST), "patience": 1},
    ],
    ids=["plain", "early stopping and a plateau", "state wherever it can be", "two phases"],
)
def test_stopped_after_every_step_it_ends_as_if_it_had_not_been(
    fit: Fit, tmp_path: Path, parameters: dict[str, Any]
) -> None:
    reached, alone = fit(epochs=2, **parameters)
    stops = 0
    while True:
        stop = Stop()
        stop.asked = True
        try:
            again, stopped = fit(stop, epochs=2, **parameters)
        except Stopped:
            stops += 1
            continue
        break
    # Four steps an epoch, of two at least; each attempt does one and is stopped.
    assert again.resumed == stops >= 7
    assert again.history == reached.history
    for a, b in zip(alone.get_weights(), stopped.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_phase_trains_what_it_leaves_trainable(fit: Fit) -> None:
    initial = network(0.01).get_weights()
    reached, trained = fit(phases=(HEAD,), epochs=5)
    changed = [not np.array_equal(a, b) for a, b in zip(initial, trained.get_weights(), strict=True)]
    assert changed == [False, False, True, True]
    assert len(reached.history) == 1


def test_a_phase_with_nothing_to_train_is_refused(fit: Fit) -> None:
    def nothing(network: keras.Model) -> None:
        network.trainable = False
        network.compile("adam", "sparse_categorical_crossentropy")

    with pytest.raises(PipelineError, match=r"phase 'head' has nothing to train; leave some layers trainable"):
        fit(phases=(Phase("head", nothing),))


def test_phases_follow_each_other_with_epochs_of_their_own(fit: Fit, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    reached, _ = fit(phases=(HEAD, REST), epochs=2)
    assert len(reached.history) == 3
    lines = [record.getMessage().split(" loss=")[0].split(" accuracy=")[0] for record in caplog.records]
    assert [line for line in lines if line.startswith(("train: phase", "train: epoch"))] == [
        "train: phase 1/2, head",
        "train: epoch 1/3",
        "train: phase 2/2, rest",
        "train: epoch 2/3",
        "train: epoch 3/3",
    ]


def test_early_stopping_ends_a_phase_and_the_next_starts_from_its_best_weights(fit: Fit) -> None:
    def diverging(network: keras.Model) -> None:
        network.compile(keras.optimizers.Adam(5.0), "sparse_categorical_crossentropy")

    def still(network: keras.Model) -> None:
        network.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")

    reached, _ = fit(phases=(Phase("diverging", diverging), Phase("still", still, epochs=1)), epochs=50, patience=2)
    losses = [epoch["val_loss"] for epoch in reached.history]
    assert len(losses) < 51
    assert losses[-1] == min(losses[:-1])


def test_weights_of_examples_count_in_the_loss_and_not_in_the_validation(fit: Fit) -> None:
    def still(network: keras.Model) -> None:
        network.get_layer(index=2).rate = 0.0
        network.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")

    plain, _ = fit(phases=(Phase("still", still),), epochs=1, batch_size=100)
    double, _ = fit(
        phases=(Phase("still", still, weigh=lambda truth: np.full(len(truth), 2.0)),), epochs=1, batch_size=100
    )
    assert double.history[0]["loss"] == pytest.approx(2 * plain.history[0]["loss"], rel=1e-5)
    assert double.history[0]["val_loss"] == plain.history[0]["val_loss"]


def with_vocabulary(*numbers: int) -> Callable[[float], keras.Model]:
    """A network whose weights belong to these numbers, from 0 to 3, in their order."""

    def build(learning_rate: float) -> keras.Model:
        keras.utils.set_random_seed(1)
        x = keras.Input((1,), name="x")
        bins = keras.layers.Discretization([-0.5, 0.0, 0.5])(x)
        found = keras.layers.IntegerLookup(vocabulary=list(numbers), output_mode="one_hot")(bins)
        built = keras.Model(inputs={"x": x}, outputs=keras.layers.Dense(2, activation="softmax")(found))
        built.compile(keras.optimizers.Adam(learning_rate), "sparse_categorical_crossentropy")
        return built

    return build


def test_a_run_keeps_the_vocabulary_that_it_began_with(fit: Fit) -> None:
    stop = Stop()
    stop.asked = True
    _, alone = fit(epochs=2, build=with_vocabulary(0, 1, 2, 3))
    with pytest.raises(Stopped):
        fit(stop, epochs=2, build=with_vocabulary(0, 1, 2, 3))
    reached, resumed = fit(epochs=2, build=with_vocabulary(2, 0, 3, 1))
    assert reached.resumed == 1
    x = np.array([[-1.0], [-0.1], [0.1], [1.0]], np.float32)
    np.testing.assert_array_equal(resumed.predict({"x": x}, verbose=0), alone.predict({"x": x}, verbose=0))


def test_a_vocabulary_of_another_size_cannot_go_on(fit: Fit) -> None:
    stop = Stop()
    stop.asked = True
    with pytest.raises(Stopped):
        fit(stop, epochs=2, build=with_vocabulary(0, 1, 2, 3))
    with pytest.raises(PipelineError, match=r"is another than the run began with: it has 3 entries, not 4; let it"):
        fit(epochs=2, build=with_vocabulary(0, 1, 2))


class NoNumberAfterTwoEpochs(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A learning rate that makes the weights no numbers."""

    def __call__(self, step: Any) -> Any:
        return keras.ops.where(keras.ops.cast(step, "int32") < 8, 0.01, float("nan"))


def test_a_loss_that_is_no_number_ends_the_run_at_the_next_validation(fit: Fit, tmp_path: Path) -> None:
    def build(learning_rate: float) -> keras.Model:
        built = network(learning_rate)
        adam = keras.optimizers.Adam(NoNumberAfterTwoEpochs())
        built.compile(adam, "sparse_categorical_crossentropy", metrics=["accuracy"])
        return built

    with pytest.raises(PipelineError) as refused:
        fit(epochs=9, build=build, checkpoint_seconds=1e-9)
    where = tmp_path / "store" / "runs" / "r" / "checkpoints"
    assert str(refused.value).startswith("train: loss is nan after epoch 3; lower the learning rate, look for inputs")
    assert str(refused.value).endswith(f"the last good checkpoint stays in {where}")
    newest = Checkpoints(LocalStorage(tmp_path / "store"), "r").newest()
    assert newest is not None
    assert newest.position.epoch == 1
    assert all(np.isfinite(array).all() for array in newest.variables[:2])


class Unsaved(keras.layers.Layer):  # type: ignore[misc]
    """Draws random numbers whose generator is in no variable."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        return inputs + tf.random.normal(tf.shape(inputs)) if training else inputs


def test_a_step_with_state_that_no_checkpoint_can_hold_is_refused(fit: Fit) -> None:
    def build(learning_rate: float) -> keras.Model:
        keras.utils.set_random_seed(1)
        x = keras.Input((1,), name="x")
        built = keras.Model(inputs={"x": x}, outputs=keras.layers.Dense(2, activation="softmax")(Unsaved()(x)))
        built.compile("adam", "sparse_categorical_crossentropy")
        return built

    with pytest.raises(PipelineError, match=r"uses TensorFlow's RandomStandardNormal, whose .* use keras\.random"):
        fit(epochs=1, build=build)


def test_an_optimiser_that_no_step_uses_is_refused(fit: Fit) -> None:
    def build(learning_rate: float) -> keras.Model:
        built = network(learning_rate)
        built.second = keras.optimizers.SGD()
        return built

    with pytest.raises(
        PipelineError, match=r"the network holds an optimizer \(SGD\) that a training step does not use"
    ):
        fit(epochs=1, build=build)


def test_averaged_weights_are_used_with_patience_too(split: Split, fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    _, raw = fit(epochs=2, patience=2)
    adam = keras.optimizers.Adam
    monkeypatch.setattr(keras.optimizers, "Adam", lambda rate: adam(rate, use_ema=True, ema_momentum=0.9))
    _, averaged = fit(epochs=2, patience=2)
    assert any(
        not np.array_equal(a, b) for a, b in zip(raw.get_weights(), averaged.get_weights(), strict=True) if a.ndim == 2
    )


def test_a_long_epoch_says_how_far_it_is_and_what_is_left(fit: Fit, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    fit(epochs=1, batch_size=1, progress_seconds=0.001)
    lines = [record.getMessage() for record in caplog.records]
    assert any(
        line.startswith("train: epoch 1/1 step ") and line.endswith(" s left") and "loss=" in line for line in lines
    )


@pytest.mark.nightly
def test_several_devices_share_the_batches() -> None:
    """In a process of its own: devices are divided before TensorFlow starts. Two halves of the CPU stand for GPUs."""
    script = """
import numpy as np, tensorflow as tf, tempfile, pathlib, os
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from mlplatform.tests.training.test_fitting import (
    Checkpoints, LocalStorage, Split, Stop, TrainingParameters, fit_phases, network)
from mlplatform.training.phases import WHOLE
root = pathlib.Path(tempfile.mkdtemp())
(root / "train").mkdir()
x = np.linspace(-1, 1, 100, dtype="f4")[:, None]
for name, column in {"x": x, "label": (x[:, 0] > 0).astype("i4"), "id": np.full(100, b"e")}.items():
    np.save(root / "train" / f"00000.{name}.npy", column)
split = Split(root, "train", ["x"])
(root / "service.toml").write_text("")
os.environ["SERVICE_TOML"] = str(root / "service.toml")
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    built = network(0.05)
    parameters = TrainingParameters(epochs=15, batch_size=32)
    checkpoints = Checkpoints(LocalStorage(root / "store"), "r")
    reached = fit_phases(built, WHOLE, (split, split), parameters, checkpoints, Stop())
print("replicas", tf.distribute.get_strategy().num_replicas_in_sync, built.distribute_strategy.num_replicas_in_sync)
print("accuracy", reached.history[-1]["val_accuracy"])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "replicas 1 2" in done.stdout
    assert float(done.stdout.split()[-1]) > 0.9
