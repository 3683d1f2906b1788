"""A model that `model.train` makes, of any framework, as an ONNX file: its inputs, its training, its preflight."""

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import model
from mlplatform.config.settings import load
from mlplatform.contract.errors import PipelineError
from mlplatform.contract.examples import Examples
from mlplatform.contract.parameters import TrainingParameters, hyperparameters
from mlplatform.contract.runtimes import EXPORTS, RuntimeSettings
from mlplatform.contract.targets import Target, of_model
from mlplatform.data.dataset import InputSpec, Split
from mlplatform.runtime import onnx
from mlplatform.runtime.call import BATCHES
from mlplatform.training import devices, onnx_checks, team_inputs
from mlplatform.training.export import NAME
from mlplatform.training.preflight import TEAM, record_properties
from mlplatform.training.team_errors import place, raised, sentence
from mlplatform.training.work import temporary

log = logging.getLogger(__name__)
FILE = EXPORTS["onnx"]
# Rows that the preflight trains on, and how many of each label at least.
FEW = 100
FEW_OF_A_LABEL = 10
# They are the pipeline's, of networks, with what leaves them unused.
FOR_NETWORKS = {"patience": 0, "plateau_patience": 0, "precision": "float32"}


@dataclass(frozen=True)
class Made:
    """What `model.train` returned: the content of an ONNX file, and what the model was that it was converted from."""

    content: bytes
    predict: Callable[[Mapping[str, NDArray[Any]]], Any] | None

    def predictions(self, inputs: Mapping[str, NDArray[Any]], target: Target) -> NDArray[np.float32] | None:
        """What it predicted before it was converted, (rows, *row_shape); None if that is not known.

        Raises PipelineError.
        """
        if self.predict is None:
            return None
        try:
            found = np.asarray(self.predict(inputs), np.float32)
            return found.reshape(len(next(iter(inputs.values()))), *target.row_shape)
        # Anything at all: it is the team's code.
        except Exception as error:
            raise PipelineError(
                f"model.train{place(error)}: the predict that it returns raises {type(error).__name__}: "
                f"{sentence(error)}"
            ) from error


def is_given() -> bool:
    """Whether model/ makes an ONNX model by `train`, and not a network by `build`.

    Raises PipelineError if it does both or neither, or if [serving] runtime computes only the other.
    """
    has = {name: callable(getattr(model, name, None)) for name in ("build", "train")}
    if all(has.values()):
        raise PipelineError(
            "model: it has both build and train; leave one: build for a Keras network, train for an ONNX model"
        )
    if not any(has.values()):
        raise PipelineError(
            "model: it has neither build nor train; export build(hyperparameters), which returns a Keras network, or "
            "train(hyperparameters, train, validation), which returns an ONNX model"
        )
    if has["train"] and hasattr(model, "phases"):
        raise PipelineError("model.phases: they are of a network that the pipeline trains; leave them out, or train")
    runtime = load(RuntimeSettings).runtime
    if has["train"] and runtime != "onnx":
        raise PipelineError(
            f"model.train: it gives an ONNX model, which [serving] runtime = {runtime!r} cannot compute; "
            "use runtime = 'onnx'"
        )
    if has["build"] and runtime == "onnx":
        raise PipelineError(
            "model.build: it gives a Keras network, which [serving] runtime = 'onnx' cannot compute; "
            "use runtime = 'tensorflow', or let model.train return an ONNX model"
        )
    return has["train"]


def definition(parameters: TrainingParameters) -> tuple[InputSpec, ...]:
    """The inputs, of model.RECORD and model.INPUTS. Raises PipelineError."""
    for name, unused in FOR_NETWORKS.items():
        given = getattr(parameters, name)
        if given != unused:
            raise PipelineError(
                f"training.{name} = {given!r}: it is for networks that the pipeline trains; leave it {unused!r}, and "
                "make what model.train needs a field of model.Hyperparameters"
            )
    target = of_model(model)
    if len(target.parts) > 1:
        raise PipelineError(
            f"model.TARGETS: {target.name} are several, which a network of model.build can learn, and model.train one; "
            "leave one of them"
        )
    properties = record_properties(model.RECORD, target)
    splitting = (parameters.split_group, parameters.split_time, parameters.split_fixed)
    reserved = ("id", "label", target.name, *splitting)
    names = team_inputs.chosen(properties, getattr(model, "INPUTS", None), reserved)
    if not names:
        raise PipelineError("model.RECORD has no property that is an input; add one to its properties")
    for name in names:
        if not NAME.fullmatch(name):
            raise PipelineError(
                f"model.RECORD: input {name!r} needs a name of letters from a to z, digits and _, a letter first; "
                "rename it"
            )
    unused_properties = [name for name in properties if name not in {*reserved, *names}]
    if unused_properties:
        log.warning("train: not in model.INPUTS, so nothing is learned from: %s", ", ".join(unused_properties))
    specs = (team_inputs.spec(name, properties[name]) for name in names)
    return tuple(team_inputs.with_sentinel(spec, model.RECORD) for spec in specs)


def check(
    train: Split,
    validation: Split,
    parameters: TrainingParameters,
    specs: Sequence[InputSpec],
    target: Target,
    work: Path,
) -> None:
    """Train on a few rows, and compute with what comes out as the server does. Raises PipelineError.

    It draws random numbers: the caller seeds what it trains afterwards.
    """
    started = time.monotonic()
    few, other = examples(train, _few(train)), examples(validation, _few(validation))
    trained = made(parameters, few, other)
    with temporary(work) as directory:
        (directory / FILE).write_bytes(trained.content)
        predict = onnx_checks.opened(directory / FILE, specs, target)
        for size in BATCHES:
            rows = as_served({name: array[np.arange(size) % len(few)] for name, array in few.inputs.items()})
            onnx_checks.check_predictions(predict, rows, target)
        before = trained.predictions(few.inputs, target)
        if before is not None:
            onnx_checks.check_converted(predict(as_served(few.inputs)), before, target)
    log.info("train: the model passes the preflight, trained on %d rows, %.1f s", len(few), time.monotonic() - started)


def made(parameters: TrainingParameters, train: Examples, validation: Examples) -> Made:
    """What `model.train` makes of examples. Raises PipelineError.

    Python's and NumPy's random states follow from the seed.
    """
    devices.seed(parameters)
    try:
        given = TEAM.train(hyperparameters(parameters), train, validation)
        given, predict = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
        if hasattr(given, "SerializeToString"):
            given = given.SerializeToString()
        if isinstance(given, str | os.PathLike):
            given = Path(given).read_bytes()
    # Anything at all: it is the team's code.
    except Exception as error:
        raise raised("model.train", error) from error
    if not isinstance(given, bytes) or not (predict is None or callable(predict)):
        raise PipelineError(
            f"model.train: it returns {type(given).__name__}; return an ONNX model, the content of its file as bytes "
            "or its path, alone or with the function that it was converted from: (model, predict)"
        )
    return Made(given, predict)


def examples(split: Split, indices: NDArray[np.int64] | None = None) -> Examples:
    """Examples of a split, all of them without indices; text as str."""
    indices = np.arange(len(split)) if indices is None else indices
    inputs = {name: _as_str(split.column(name, indices)) for name in split.inputs}
    return Examples(inputs, split.column("label", indices))


def _few(split: Split) -> NDArray[np.int64]:
    """The first rows, and of each label that has fewer among them the first of that label."""
    truth = split.column("label", np.arange(len(split)))
    few = np.arange(min(FEW, len(split)))
    if truth.ndim == 1 and truth.dtype.kind in "fS":
        return few
    has = [truth == label for label in np.unique(truth)] if truth.ndim == 1 else [*(truth > 0).T, *(truth == 0).T]
    return np.unique(np.concatenate([few, *(np.flatnonzero(rows)[:FEW_OF_A_LABEL] for rows in has)]))


def as_served(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Inputs of examples as the server has them: text as bytes."""
    return {name: onnx.each(str.encode, array) if array.dtype == object else array for name, array in inputs.items()}


def _as_str(array: NDArray[Any]) -> NDArray[Any]:
    return onnx.each(bytes.decode, array) if array.dtype.kind in "SO" else array
