"""Keras callbacks of a phase: called as Keras's own loop calls them, and resumed with what they have noted.

What a callback notes, it notes in its attributes; a checkpoint holds those that are plain. What the next process makes
anew, such as a schedule, needs no keeping. Anything else cannot be resumed and is refused before the training.
"""

import functools
import importlib
import inspect
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mlplatform.contract.errors import PipelineError
from mlplatform.training.team_errors import raised

Arrays = list[np.ndarray[Any, Any]]
# What a run does by itself, and its checkpoints would not agree with.
OWN = (keras.callbacks.BackupAndRestore, keras.callbacks.ModelCheckpoint)
# What nothing is noted in: each process makes it again.
MADE_ANEW = (type, ModuleType, np.ufunc, functools.partial, keras.optimizers.schedules.LearningRateSchedule)
BATCH_HOOKS = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")
# Hooks that are never called: validation and predictions are the run's own.
OTHER_HOOKS = tuple(name for name in dir(keras.callbacks.Callback) if name.startswith(("on_test", "on_predict")))


class _UnkeptError(Exception):
    """A value cannot be kept in a checkpoint."""


class Callbacks:
    """The callbacks of a phase, for a network that is compiled. Raises PipelineError for those that cannot be used."""

    def __init__(self, callbacks: Sequence[keras.callbacks.Callback], network: keras.Model) -> None:
        self._callbacks = callbacks
        self._network = network
        # Metrics are read out, which takes a while, for hooks that there are.
        self._of_batches = any(_has(callback, name) for callback in callbacks for name in BATCH_HOOKS)
        for callback in callbacks:
            name = type(callback).__name__
            if isinstance(callback, OWN):
                raise PipelineError(
                    f"model.phases: leave the callback {name} out; a run saves checkpoints and the network itself"
                )
            if other := next((hook for hook in OTHER_HOOKS if _has(callback, hook)), ""):
                raise PipelineError(
                    f"model.phases: callback {name} has {other}, which a run never calls; use on_epoch_end, whose logs "
                    "have the metrics of the validation"
                )

    def begin(self, epochs: int, steps: int) -> None:
        """Before the first step of a process. epochs: of the phase, of so many steps each."""
        self._network.stop_training = False
        for callback in self._callbacks:
            callback.set_model(self._network)
            callback.set_params({"epochs": epochs, "steps": steps, "verbose": 0})
        self._call("on_train_begin")

    @property
    def stopped(self) -> bool:
        """Whether one of them has ended the training."""
        return bool(self._callbacks) and bool(self._network.stop_training)

    def epoch_begins(self, epoch: int) -> None:
        """epoch: of the phase, from 0."""
        self._call("on_epoch_begin", epoch)

    def step_begins(self, step: int) -> None:
        """step: of the epoch, from 0."""
        if self._of_batches:
            self._call("on_train_batch_begin", step)

    def step_ends(self, step: int) -> None:
        """After a step of the epoch, from 0."""
        if self._of_batches:
            logs = {name: float(value) for name, value in self._network.get_metrics_result().items()}
            self._call("on_train_batch_end", step, logs)

    def epoch_ends(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """metrics: of the epoch and, as val_, of its validation."""
        self._call("on_epoch_end", epoch, dict(metrics))

    def end(self) -> None:
        """The phase has ended; the network may get other weights."""
        self._call("on_train_end")

    def check_monitored(self, metrics: Mapping[str, float]) -> None:
        """Raises PipelineError if one watches a metric that is none of these."""
        for callback in self._callbacks:
            watched = getattr(callback, "monitor", None)
            if isinstance(watched, str) and watched not in metrics:
                raise PipelineError(
                    f"model.phases: callback {type(callback).__name__} monitors {watched!r}, which is no metric of the "
                    f"network; there are: {', '.join(metrics)}"
                )

    def state(self) -> tuple[list[dict[str, Any]], Arrays]:
        """What they have noted, as JSON by attribute, and the arrays that it refers to. Raises PipelineError."""
        arrays: Arrays = []
        return [self._state_of(callback, arrays) for callback in self._callbacks], arrays

    def restore(self, states: Sequence[Mapping[str, Any]], arrays: Sequence[Any]) -> None:
        """Give them what `state` returned."""
        for callback, state in zip(self._callbacks, states, strict=True):
            for name, kept in state.items():
                setattr(callback, name, _restored(kept, arrays, getattr(callback, name, None)))

    def _state_of(self, callback: keras.callbacks.Callback, arrays: Arrays) -> dict[str, Any]:
        state = {}
        for name, value in vars(callback).items():
            if self._is_made_anew(value):
                continue
            try:
                state[name] = _kept(value, arrays)
            except _UnkeptError as error:
                raise PipelineError(
                    f"model.phases: callback {type(callback).__name__} holds {error} in its attribute {name!r}, which "
                    "no checkpoint keeps, so the run could not be resumed; keep numbers, text, arrays, or lists and "
                    "dicts of them"
                ) from None
        return state

    def _is_made_anew(self, value: Any) -> bool:
        network = self._network
        if isinstance(value, keras.layers.Layer | keras.Metric | keras.optimizers.Optimizer):
            parts = [network, network.optimizer, *network._flatten_layers(), *network.metrics]
            return any(value is part for part in parts)
        if isinstance(value, list | tuple) and value:
            return all(map(self._is_made_anew, value))
        return isinstance(value, MADE_ANEW) or (inspect.isroutine(value) and not _reference(value))

    def _call(self, hook: str, *arguments: Any) -> None:
        for callback in self._callbacks:
            try:
                getattr(callback, hook)(*arguments)
            # Anything at all: it is the team's code.
            except Exception as error:
                raise raised(f"model.phases: {hook} of callback {type(callback).__name__}", error) from error


def _has(callback: keras.callbacks.Callback, hook: str) -> bool:
    """Whether a callback has a hook of its own."""
    return hook in vars(callback) or getattr(type(callback), hook) is not getattr(keras.callbacks.Callback, hook)


def _kept(value: Any, arrays: Arrays) -> Any:
    """A value as JSON; arrays are put aside, copied. Raises _UnkeptError."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_kept(item, arrays) for item in value]}
    if type(value) is dict:
        return {"dict": [[_kept(key, arrays), _kept(item, arrays)] for key, item in value.items()]}
    if isinstance(value, keras.Variable | tf.Variable):
        return {"variable": _aside(keras.ops.convert_to_numpy(value), arrays)}
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind != "O":
        return {"array" if isinstance(value, np.ndarray) else "scalar": _aside(value, arrays)}
    if tf.is_tensor(value) and hasattr(value, "numpy"):
        return {"tensor": _aside(value.numpy(), arrays)}
    if reference := _reference(value):
        return {"function": reference}
    raise _UnkeptError(f"a value of type {type(value).__name__}")


def _aside(array: Any, arrays: Arrays) -> int:
    arrays.append(np.array(array))
    return len(arrays) - 1


def _restored(kept: Any, arrays: Sequence[Any], value: Any) -> Any:
    """What `_kept` kept. value: what the callback holds now."""
    if not isinstance(kept, dict):
        return kept
    ((kind, content),) = kept.items()
    if kind in ("list", "tuple"):
        items = [_restored(item, arrays, None) for item in content]
        return items if kind == "list" else tuple(items)
    if kind == "dict":
        held = value if isinstance(value, dict) else {}
        pairs = [(_restored(key, arrays, None), item) for key, item in content]
        return {key: _restored(item, arrays, held.get(key)) for key, item in pairs}
    if kind == "function":
        return _named(content)
    array = arrays[content]
    if kind == "variable":
        value.assign(array)
        return value
    if kind == "tensor":
        return tf.constant(array)
    return array[()] if kind == "scalar" else array


def _reference(value: Any) -> str:
    """`module:name` of a function that can be found by it again; empty for any other."""
    if not inspect.isroutine(value):
        return ""
    reference = f"{getattr(value, '__module__', '')}:{getattr(value, '__qualname__', '')}"
    try:
        return reference if _named(reference) is value else ""
    except (ImportError, AttributeError, ValueError):
        return ""


def _named(reference: str) -> Any:
    module, _, name = reference.partition(":")
    return functools.reduce(getattr, name.split("."), importlib.import_module(module))
