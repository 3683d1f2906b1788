"""Callbacks of a phase: they do what they do in Keras, and a run that was stopped goes on with their state."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import model
from mlplatform.cli import main
from mlplatform.contract.errors import PipelineError
from mlplatform.contract.parameters import TrainingParameters
from mlplatform.contract.stopping import Stop, Stopped
from mlplatform.data.dataset import Split
from mlplatform.store.storage import LocalStorage
from mlplatform.tests.training import splits
from mlplatform.tests.training.test_kill import PROCESSES, weights
from mlplatform.training.checkpoints import Checkpoints, Position
from mlplatform.training.fitting import Fitting, fit
from mlplatform.training.phases import Phase

Make = Callable[[], Sequence[keras.callbacks.Callback]]


def network() -> keras.Model:
    keras.utils.set_random_seed(1)
    x = keras.Input((1,), name="x")
    y = keras.layers.Dense(2, activation="softmax")(keras.layers.Dropout(0.5)(keras.layers.Dense(8)(x)))
    built = keras.Model(inputs={"x": x}, outputs=y)
    # So large that the loss goes up and down.
    built.compile(keras.optimizers.Adam(1.0), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return built


@pytest.fixture
def split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Split:
    """100 examples; the label is whether x is positive, mostly."""
    (tmp_path / "service.toml").write_text("")
    monkeypatch.setenv("SERVICE_TOML", str(tmp_path / "service.toml"))
    chance = np.random.default_rng(0)
    x = chance.normal(size=(100, 1)).astype(np.float32)
    return splits.split(tmp_path, x=x, label=(x[:, 0] + chance.normal(size=100) > 0).astype(np.int32))


@pytest.fixture
def train(split: Split, tmp_path: Path) -> Callable[..., tuple[Position, keras.Model]]:
    """Train in phases with these callbacks, each made anew as in a process of its own."""

    def run(*phases: Make, stop: Stop | None = None, epochs: int = 30) -> tuple[Position, keras.Model]:
        built = network()
        checkpoints = Checkpoints(LocalStorage(tmp_path / "store"), "r")
        named = [Phase(f"phase {number}", callbacks=make()) for number, make in enumerate(phases)]
        parameters = TrainingParameters(epochs=epochs, batch_size=40)
        reached = fit(built, named, (split, split), parameters, checkpoints, stop or Stop())
        checkpoints.clear()
        return reached, built

    return run


class Noted(keras.callbacks.Callback):  # type: ignore[misc]
    """Notes state of every kind that is kept, and lets the learning rate follow from all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.losses: list[float] = []
        self.by_name: dict[Any, Any] = {"pair": (1, None), 5: np.float32(0.5)}
        self.mean = np.zeros(2)
        self.share = keras.Variable(1.0)
        self.last = tf.constant(0.0)
        self.rule = np.maximum

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        assert logs is not None
        self.calls += 1
        self.losses.append(logs["loss"])
        self.by_name[5] = self.rule(self.by_name[5] * np.float32(0.9), np.float32(batch))
        self.mean = 0.9 * self.mean + np.array([batch, logs["loss"]])
        self.share.assign(self.share * 0.99)
        self.last = self.last + logs["accuracy"]
        noted = self.calls + sum(self.losses) + self.by_name[5] + self.mean.sum() + float(self.share) + float(self.last)
        self.model.optimizer.learning_rate = 0.1 + float(noted % 1.0)


def stopping() -> Sequence[keras.callbacks.Callback]:
    return [keras.callbacks.EarlyStopping("val_accuracy", patience=2, restore_best_weights=True, min_delta=0.001)]


def plateau() -> Sequence[keras.callbacks.Callback]:
    return [keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1, cooldown=1)]


def schedule() -> Sequence[keras.callbacks.Callback]:
    return [keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9 if epoch else 0.5)]


def noted() -> Sequence[keras.callbacks.Callback]:
    return [Noted()]


def same(one: keras.Model, other: keras.Model) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


@pytest.mark.long
@pytest.mark.parametrize(
    ("phases", "epochs"),
    [([stopping], 30), ([plateau], 6), ([schedule], 3), ([noted], 3), ([stopping, plateau], 4)],
    ids=["early stopping", "plateau", "schedule", "own", "two phases"],
)
def test_stopped_after_every_step_a_run_ends_as_if_it_had_not_been(
    train: Callable[..., tuple[Position, keras.Model]], phases: Sequence[Make], epochs: int
) -> None:
    reached, alone = train(*phases, epochs=epochs)
    stops = 0
    while True:
        stop = Stop()
        stop.asked = True
        try:
            again, stopped = train(*phases, epochs=epochs, stop=stop)
        except Stopped:
            stops += 1
            continue
        break
    assert stops >= 3 * len(reached.history)
    assert again.history == reached.history
    assert same(stopped, alone)
    if phases[0] is stopping:
        assert len(reached.history) < epochs * len(phases)


def test_early_stopping_ends_as_kerass_own_loop_does_with_the_best_weights(
    train: Callable[..., tuple[Position, keras.Model]], split: Split
) -> None:
    reached, trained = train(stopping)
    accuracy = [epoch["val_accuracy"] for epoch in reached.history]
    assert 3 <= len(accuracy) < 30
    assert len(accuracy) - 1 - int(np.argmax(accuracy)) == 2
    inputs, truth = split.take(np.arange(len(split)))
    _, measured = trained.evaluate(inputs, truth, verbose=0)
    assert measured == pytest.approx(max(accuracy))


def test_a_plateau_lowers_the_learning_rate(train: Callable[..., tuple[Position, keras.Model]]) -> None:
    _, trained = train(plateau)
    assert float(keras.ops.convert_to_numpy(trained.optimizer.learning_rate)) < 0.6


def test_a_callback_may_end_the_training_within_an_epoch(train: Callable[..., tuple[Position, keras.Model]]) -> None:
    class Enough(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.model.stop_training = batch == 1

    reached, _ = train(lambda: [Enough()])
    assert len(reached.history) == 1
    assert reached.step == 0


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: keras.callbacks.EarlyStopping("val_f1"),
            "monitors 'val_f1', which is no metric of the network; ",
        ),
        (
            lambda: keras.callbacks.CSVLogger("log.csv"),
            "CSVLogger holds a value of type TextIOWrapper in its ",
        ),
        (lambda: keras.callbacks.BackupAndRestore("backup"), "leave the callback BackupAndRestore out"),
        (lambda: keras.callbacks.SwapEMAWeights(), "callback SwapEMAWeights has on_predict_begin, which a run "),
        (lambda: held(np.random.default_rng(1)), "Callback holds a value of type Generator in its attribute 'held'"),
        (lambda: held([keras.metrics.Mean()]), "Callback holds a value of type Mean in its attribute 'held'"),
        (lambda: held({1, 2}), "Callback holds a value of type set in its attribute 'held', which no checkpoint"),
        (
            lambda: keras.callbacks.LearningRateScheduler(lambda *_: "fast"),
            "on_epoch_begin of callback LearningRateSch",
        ),
    ],
)
def test_what_cannot_be_resumed_or_used_is_refused_before_the_training(
    split: Split, make: Callable[[], Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    phase = Phase("train", callbacks=[make()])
    with pytest.raises(PipelineError, match=r"^model\.phases: ") as refused:
        Fitting(network(), (split, split), TrainingParameters(epochs=1, batch_size=100), phase).rehearse()
    assert said in str(refused.value)


def held(value: Any) -> keras.callbacks.Callback:
    callback = keras.callbacks.Callback()
    callback.held = value
    return callback


def test_a_rehearsal_leaves_no_trace(split: Split) -> None:
    (callback,) = noted()
    Fitting(network(), (split, split), TrainingParameters(batch_size=100), Phase("a", callbacks=[callback])).rehearse()
    assert (callback.calls, callback.losses, float(callback.share)) == (0, [], 1.0)


def both(*_: Any) -> list[Phase]:
    """Two phases of the toy."""
    return [Phase("first", callbacks=[*stopping(), *plateau()], epochs=60), Phase("second", callbacks=stopping())]


def training(directory: Path) -> None:
    """Be `python -m mlplatform train` in a directory, with callbacks, and output to a file there."""
    os.chdir(directory)
    output = os.open("output", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    os.dup2(output, sys.stdout.fileno())
    os.dup2(output, sys.stderr.fileno())
    model.__dict__["phases"] = both
    options = ("--epochs", "60", "--batch-size", "16", "--checkpoint-seconds", "0.02", "--litert", "false")
    sys.exit(main(["train", *options, "--minimum-accuracy", "0", "--learning-rate", "0.2", "--source", "data"]))


def started(directory: Path) -> BaseProcess:
    (directory / "output").unlink(missing_ok=True)
    process = PROCESSES.Process(target=training, args=(directory,))
    process.start()
    return process


def printed(directory: Path) -> str:
    path = directory / "output"
    return path.read_text() if path.exists() else ""


@pytest.mark.long
def test_killed_in_every_phase_a_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    values = chance.normal(size=(400, 4))
    rows = [{"x": x.tolist(), "label": "yes" if x.sum() + chance.normal() > 0 else "no"} for x in values]
    for name in ("alone", "killed"):
        (tmp_path / name / "data").mkdir(parents=True)
        (tmp_path / name / "service.toml").write_text('[service]\nname = "under-test"\n')
        (tmp_path / name / "data" / "toy.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    process = started(alone)
    process.join(600)
    assert process.exitcode == 0, printed(alone)
    for moment in ("train: phase 1/2", "train: epoch 2/", "train: phase 2/2"):
        process = started(killed)
        while moment not in printed(killed):
            assert process.exitcode is None, printed(killed)
            time.sleep(0.005)
        assert process.pid
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    process = started(killed)
    process.join(600)
    assert process.exitcode == 0, printed(killed)
    assert "resuming from a checkpoint" in printed(killed)
    assert weights(killed) == weights(alone)
