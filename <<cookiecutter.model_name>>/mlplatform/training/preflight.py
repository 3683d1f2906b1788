"""What cannot work ends before the training starts, with one sentence that says what in `model/` to change.

`definition` needs no data and comes before any is read; `check` takes the dataset's first rows through everything that
a run does with a network: a step, a validation, the metrics, the export, the server's loaders, predictions.
"""

import inspect
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema_rs
import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

import model
from mlplatform.config.settings import load
from mlplatform.contract import gate
from mlplatform.contract.errors import PipelineError
from mlplatform.contract.lengths import Length
from mlplatform.contract.missing import MISSING
from mlplatform.contract.parameters import TrainingParameters, hyperparameters
from mlplatform.contract.runtimes import RuntimeSettings
from mlplatform.contract.targets import Target, of_model
from mlplatform.data.checking import PADDING, lengths, media_type, says_null
from mlplatform.data.dataset import InputSpec, Split
from mlplatform.runtime.call import BATCHES
from mlplatform.training import litert
from mlplatform.training.export import Exported, export, input_specs
from mlplatform.training.first_rows import FirstRows
from mlplatform.training.fitting import Fitting, has_finite_weights
from mlplatform.training.phases import Phase, phases_of
from mlplatform.training.team_errors import place, raised, sentence
from mlplatform.training.team_inputs import may_be_missing, with_sentinel
from mlplatform.training.work import temporary

log = logging.getLogger(__name__)

# It has either build or train, so a checker of types finds one of them missing.
TEAM: Any = model
# More than float32 sums in another order differ by, less than a network that lost its weights does.
TOLERANCE = 0.02
# How many of the first rows are also predicted one by one.
ROWS_ALONE = 4
REPLACE_NAN = "replace it first, as keras.ops.where(keras.ops.isnan(x), 0.0, x) does"
# Names in one message.
SHOWN = 10


def build(parameters: TrainingParameters, train: Split | None = None) -> keras.Model:
    """The network of `model.build`. Raises PipelineError, with the line in `model/`, if there is none.

    train: for a `model.build` with a parameter of this name; None if only the inputs and the output are looked at.
    """
    try:
        wanted = {"train": train} if "train" in inspect.signature(TEAM.build).parameters else {}
        network = TEAM.build(hyperparameters(parameters), **wanted)
    # Anything at all: it is the team's code.
    except Exception as error:
        raise raised("model.build", error) from error
    if not isinstance(network, keras.Model):
        raise PipelineError(
            f"model.build: it returns {type(network).__name__}; end it with `return network`, the compiled keras.Model"
        )
    return network


def definition(parameters: TrainingParameters) -> tuple[InputSpec, ...]:
    """The network's inputs, once what `model/` defines fits together. Raises PipelineError."""
    target = of_model(model)
    if parameters.split_stratified and len(target.parts) > 1:
        raise PipelineError(
            "training.split_stratified = true: it divides by an example's one label, and model.TARGETS are "
            f"{target.name}; leave it out, or use one of split_group, split_time and split_fixed"
        )
    properties = record_properties(model.RECORD, target)
    reserved = ("id", "label", *(part.name for part in target.parts))
    specs = _inputs(build(parameters), target)
    for spec in specs:
        if spec.name in reserved:
            raise PipelineError(
                f"model.build: an input cannot be called {spec.name!r}, which is the record's {spec.name}; rename it"
            )
        if spec.name not in properties:
            others = ", ".join(name for name in properties if name not in reserved) or "none"
            raise PipelineError(
                f"model.build: input {spec.name!r} is no property of model.RECORD; its properties are: {others}"
            )
        if says_null(properties[spec.name], model.RECORD, len(spec.shape)) and not spec.optional:
            instead = {"string": '""', "bool": "false"}.get(spec.dtype, "-1")
            raise PipelineError(
                f"model.RECORD: {spec.name!r} may be null, and the network takes it as {spec.dtype}, which has no "
                f'value for that; name one that stands for it, such as "{MISSING}": {instead}, or let the network take '
                "it as float32, where null is NaN"
            )
        if media_type(properties[spec.name], model.RECORD, len(spec.shape)) and not spec.media_type:
            raise PipelineError(
                f"model.RECORD: {spec.name!r} is bytes in base64, and the network takes it as {spec.dtype}; give its "
                "keras.Input dtype='string' and decode it in the network"
            )
        if spec.length:
            _check_list(spec, spec.length, properties[spec.name])
    unused = [name for name in properties if name not in reserved and name not in {spec.name for spec in specs}]
    if unused:
        log.warning("train: no input of the network, so nothing is learned from it: model.RECORD's %s", _list(unused))
    return specs


def _check_list(spec: InputSpec, length: Length, column: Any) -> None:
    """Refuse lists of any length that may be missing, and a padding that is no value of theirs."""
    if spec.name not in model.RECORD.get("required", ()) or says_null(column, model.RECORD, 0):
        raise PipelineError(
            f"model.RECORD: {spec.name!r} is a list of any length and may be missing, which the network cannot be "
            "told; let required name it and its type leave null out, and let the data hold [] instead, with minItems 0"
        )
    try:
        holds = bool(np.array(length.padding, spec.dtype) == length.padding) and np.isfinite(length.padding)
    except (ValueError, TypeError, OverflowError):
        holds = False
    if not holds:
        raise PipelineError(
            f"model.RECORD: {spec.name!r} has the {PADDING} {length.padding!r}, and the network takes it as "
            f"{spec.dtype}; use a number of this type, or leave it out for 0"
        )


def _inputs(network: keras.Model, target: Target) -> tuple[InputSpec, ...]:
    """The network's inputs, with what the record says of them. Raises PipelineError."""
    record = model.RECORD
    properties = record.get("properties", {})

    def bytes_in(spec: InputSpec) -> str:
        return media_type(properties.get(spec.name), record, len(spec.shape)) if spec.dtype == "string" else ""

    def may_be_nan(spec: InputSpec) -> bool:
        floats = spec.name in properties and spec.dtype.startswith("float") and spec.missing is None
        return floats and may_be_missing(spec, record)

    found = input_specs(network, target, lengths(record))
    specs = [with_sentinel(replace(spec, media_type=bytes_in(spec)), record) for spec in found]
    return tuple(replace(spec, nullable=may_be_nan(spec)) for spec in specs)


def check(
    train: Split,
    validation: Split,
    parameters: TrainingParameters,
    target: Target,
    work: Path,
    converter: litert.Converter,
) -> None:
    """Take the splits' first rows through all that a run does, with a network of its own. Raises PipelineError.

    It draws random numbers: the caller seeds what it builds afterwards.
    """
    started = time.monotonic()
    if parameters.litert:
        converter.start()
    network = build(parameters, train)
    inputs = _inputs(network, target)
    count = min(parameters.batch_size, BATCHES[-1])
    rows, held_out = FirstRows(train, count, inputs), FirstRows(validation, count)
    _check_missing(network, rows, target)
    for phase in phases_of(model, parameters, network):
        phase.begin(network)
        _check_compiled(network, parameters, target)
        try:
            _rehearse(network, rows, held_out, parameters, phase)
        except PipelineError:
            raise
        except Exception as error:
            part = _failing_part(network, rows)
            raise PipelineError(f"model.build{place(error)}: {part}: {sentence(error)}") from error
    _check_learned(network, rows, held_out, parameters)
    with temporary(work) as directory:
        expected = _check_served(network, inputs, target, rows, directory / "saved_model")
        _check_litert(rows, expected, parameters, target, directory, converter)
    log.info("train: the network passes the preflight, %.1f s", time.monotonic() - started)


def check_files(splits: Mapping[str, Split], parameters: TrainingParameters, inputs: Sequence[InputSpec]) -> None:
    """Have a network compute every example of splits by name, if it takes files: no schema knows which it can decode.

    inputs: as `definition` gives them. It draws random numbers, see `check`. Raises PipelineError with the first
    example that it cannot compute.
    """
    if not any(spec.media_type for spec in inputs):
        return
    started, size = time.monotonic(), parameters.batch_size
    network = build(parameters, splits["train"])
    for name, split in splits.items():
        for at in range(0, len(split), size):
            indices = np.arange(at, min(at + size, len(split)))
            try:
                network.predict_on_batch(_tensors(split.take(indices)[0]))
            except Exception as error:
                found = _not_computed(network, name, split, indices)
                if found is None:
                    raise
                raise found from error
    log.info("train: the network takes every file, %.1f s", time.monotonic() - started)


def _not_computed(network: keras.Model, name: str, split: Split, indices: NDArray[np.int64]) -> PipelineError | None:
    """The first of these examples that the network cannot compute where no other is beside it; None if there is none.

    name: of the split.
    """
    for index in indices.reshape(-1, 1):
        try:
            network(_tensors(split.take(index)[0]), training=False)
        except Exception as error:
            id = split.column("id", index)[0].decode()
            return PipelineError(
                f"model.build{place(error)}: the network cannot compute example {id!r} of the {name} split: "
                f"{sentence(error)}; mend or remove its record, or let the network take it"
            )
    return None


def record_properties(record: Mapping[str, Any], target: Target) -> Mapping[str, Any]:
    """The record's properties, of a valid schema that has the target. Raises PipelineError."""
    if not isinstance(record, Mapping):
        raise PipelineError(f"model.RECORD is {type(record).__name__}; it must be a JSON Schema, a dict")
    try:
        jsonschema_rs.meta.validate(dict(record))
    except jsonschema_rs.ValidationError as error:
        place = ".".join(str(part) for part in error.instance_path)
        raise PipelineError(
            f"model.RECORD is no valid JSON Schema: {f'{place}: ' if place else ''}{error.message}"
        ) from None
    properties: Mapping[str, Any] = record.get("properties", {})
    for part in target.parts:
        if part.name not in properties:
            raise PipelineError(
                f"model.RECORD has no property {part.name!r}, what is to be learned; add it to its properties"
            )
    return properties


def _list(names: Sequence[str]) -> str:
    """A few names, and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown


def _check_compiled(network: keras.Model, parameters: TrainingParameters, target: Target) -> None:
    if not network.compiled:
        raise PipelineError(
            f"model.build: the network is not compiled; call network.compile(optimizer=..., {target.compiling}) before "
            "it is returned"
        )
    if network.steps_per_execution != 1:
        raise PipelineError(
            f"model.build: leave out steps_per_execution={network.steps_per_execution}; a run can be stopped, and "
            "resumed, between any two steps"
        )
    _check_losses(network.loss, target)
    schedule = isinstance(network.optimizer.get_config().get("learning_rate"), dict)
    if parameters.plateau_patience and schedule:
        raise PipelineError(
            "model.build: the optimizer has a learning-rate schedule, and plateau_patience changes the learning rate "
            "too; use one of them"
        )


def _check_losses(loss: Any, target: Target) -> None:
    """Refuse losses that are not one for each target."""
    if len(target.parts) == 1:
        _check_loss(loss, target)
        return
    names = [part.name for part in target.parts]
    if not isinstance(loss, dict) or {*loss} != {*names}:
        raise PipelineError(
            f"model.build: loss={loss!r} must be a dict with a loss for each of model.TARGETS; compile with "
            f"{target.compiling}"
        )
    for part in target.parts:
        _check_loss(loss[part.name], part, f"[{part.name!r}]")


def _check_loss(loss: Any, target: Target, of: str = "") -> None:
    """Refuse Keras's losses for another kind of target, which compute nonsense, and no error."""
    try:
        known = keras.losses.get(loss) if isinstance(loss, str) else loss
    except ValueError:
        raise PipelineError(f"model.build: loss{of}={loss!r} is not known to Keras; use {target.loss!r}") from None
    name = str(getattr(known, "__name__", type(known).__name__))
    module = str(getattr(known, "__module__", ""))
    if known is None or (module.startswith("keras.") and not target.fits_loss(name)):
        shown = loss if isinstance(loss, str) or loss is None else name
        raise PipelineError(f"model.build: loss{of}={shown!r} is not for {target.truths}; use {target.loss!r}")


def _check_missing(network: keras.Model, rows: FirstRows, target: Target) -> None:
    """Refuse a network that predicts NaN where an input is missing."""
    if not rows.gaps:
        return
    try:
        predicted = target.joined(network(_tensors(rows.take(rows.with_gaps)[0]), training=False))
    except Exception:
        # A step fails of it as well, and then it is told which part of the network does.
        return
    for gap, values in zip(rows.gaps.values(), predicted, strict=True):
        if not np.isfinite(values).all():
            raise PipelineError(
                f"model.build: where {gap.said} is missing, which model.RECORD allows, the network is given NaN and "
                f"predicts NaN; {REPLACE_NAN}, or let model.RECORD require a number"
            )


def _check_learned(
    network: keras.Model, rows: FirstRows, validation: FirstRows, parameters: TrainingParameters
) -> None:
    """Refuse a network that predicts where inputs are missing, but learns NaN from it.

    The gradient of what a condition has chosen against is 0 times NaN, which is NaN.
    """
    if not rows.gaps or has_finite_weights(network):
        return
    other = build(parameters)
    for phase in phases_of(model, parameters, other):
        phase.begin(other)
        _rehearse(other, FirstRows(rows.split, rows.count), validation, parameters, phase)
    if has_finite_weights(other):
        raise PipelineError(
            "model.build: after a training step on rows where inputs are missing, which model.RECORD allows, weights "
            f"are NaN; {REPLACE_NAN}, before anything is computed from it"
        )


def _rehearse(
    network: keras.Model, rows: FirstRows, validation: FirstRows, parameters: TrainingParameters, phase: Phase
) -> None:
    """All that a phase of a run does with a network, with one step over all rows."""
    few = parameters.model_copy(update={"epochs": 1, "batch_size": len(rows)})
    Fitting(network, (rows, validation), few, phase).rehearse()


def _failing_part(network: keras.Model, rows: Split) -> str:
    """Which part of the network a step fails in, found by trying them one after the other."""
    inputs, truth = rows.take(np.arange(len(rows)))
    x, y = _tensors(inputs), tf.nest.map_structure(tf.constant, truth)
    part = "the layers fail on the dataset's first rows"
    try:
        predicted = network(x, training=True)
        part = "the loss given to compile fails"
        network.compute_loss(x=x, y=y, y_pred=predicted)
        part = "a metric given to compile fails"
        for name, value in network.compute_metrics(x, y, predicted).items():
            if np.ndim(value):
                return (
                    f"metric {name!r} has a value of shape {np.shape(value)}; let it return one number, or leave it out"
                )
    except Exception:
        return part
    return "a training step fails"


def _check_served(
    network: keras.Model, specs: Sequence[InputSpec], target: Target, rows: FirstRows, directory: Path
) -> NDArray[np.float32]:
    """Export the network, predict with it as the server does, and return what it predicts for all rows."""
    try:
        exported = Exported(directory, export(network, target, directory, specs))
    except Exception as error:
        raise PipelineError(
            f"model.build{place(error)}: the network cannot be exported and served: {sentence(error)}"
        ) from error
    batches = [np.arange(size) % rows.count for size in BATCHES]
    for batch in [*batches, rows.copies] if len(rows.copies) else batches:
        size = len(batch)
        inputs, _ = rows.take(batch)
        try:
            served = exported(inputs)
        except Exception as error:
            raise PipelineError(
                f"model.build: the exported network cannot predict {size} rows: {sentence(error)}"
            ) from error
        fault = target.prediction_fault(served)
        if fault:
            raise PipelineError(f"model.build: {fault}")
        expected = target.joined(network(_tensors(inputs), training=False)).reshape(served.shape)
        if target.difference(served, exported(inputs)) > gate.EXPORT_TOLERANCE:
            raise PipelineError(
                f"model.build: for the same {size} rows the exported network predicts something else each time; "
                f"{_differing_layer(network, inputs, inputs, 0)} must not be random where training is False"
            )
        difference = target.difference(served, expected)
        if difference > TOLERANCE:
            raise PipelineError(
                f"model.build: for {size} rows the exported network differs from the trained one by {difference:.2g}; "
                "a layer must compute the same from the same inputs in both"
            )
    together = rows.take(np.arange(len(rows)))[0]
    predicted = exported(together)
    _check_rows_alone(network, exported, together, predicted, target)
    if any(spec.length for spec in specs):
        _check_padding(network, exported, rows, together, predicted, target)
    return predicted


def _check_rows_alone(
    network: keras.Model,
    exported: Exported,
    together: Mapping[str, NDArray[Any]],
    predicted: NDArray[np.float32],
    target: Target,
) -> None:
    """Refuse a network that predicts something else for a row when others are beside it: the server mixes requests.

    predicted: for all rows, which are in `together`.
    """
    single = [
        {name: array[row : row + 1] for name, array in together.items()}
        for row in range(min(ROWS_ALONE, len(predicted)))
    ]
    alone = np.concatenate([exported(inputs) for inputs in single])
    beside = predicted[: len(alone)]
    difference = target.difference(alone, beside)
    if difference > TOLERANCE:
        row = int(np.abs(alone - beside).reshape(len(alone), -1).max(axis=1).argmax())
        from_this = {name: np.roll(array, -row, axis=0) for name, array in together.items()}
        raise PipelineError(
            f"model.build: a row's prediction differs by {difference:.2g} where no other row is beside it, and the "
            "server computes rows of several requests together; "
            f"{_differing_layer(network, from_this, single[row], TOLERANCE)} must compute each row by itself, and "
            "not, for one, take a mean over the batch"
        )


def _check_padding(
    network: keras.Model,
    exported: Exported,
    rows: FirstRows,
    together: Mapping[str, NDArray[Any]],
    predicted: NDArray[np.float32],
    target: Target,
) -> None:
    """Refuse a network that predicts something else for a row when a longer one is beside it.

    predicted: for all rows, which are in `together`, each filled up to the longest that there may be.
    """
    for row in [*range(min(ROWS_ALONE, rows.count)), *rows.longest]:
        alone = rows.take(np.array([row]))[0]
        difference = target.difference(exported(alone), predicted[row : row + 1])
        if difference > TOLERANCE:
            from_this = {name: np.roll(array, -row, axis=0) for name, array in together.items()}
            raise PipelineError(
                f"model.build: a row's prediction differs by {difference:.2g} where a longer row is beside it, for "
                f"which it is filled up; {_differing_layer(network, from_this, alone, TOLERANCE)} must leave out what "
                "it is filled up with, as recurrent and attention layers do behind keras.layers.Masking, or an "
                "Embedding with mask_zero"
            )


def _check_litert(
    rows: Split,
    expected: NDArray[np.float32],
    parameters: TrainingParameters,
    target: Target,
    directory: Path,
    converter: litert.Converter,
) -> None:
    """Convert the exported network to LiteRT and predict with it as the server does.

    A network that LiteRT cannot compute is refused where LiteRT is to serve it, and else gets no copy.
    """
    serving = load(RuntimeSettings).runtime
    if parameters.litert:
        entry = litert.runtime(
            directory / "saved_model", directory, rows, expected, len(rows), directory, target, converter
        )
    else:
        entry = litert.switched_off()
    if entry["valid"]:
        return
    if serving == "litert":
        raise PipelineError(
            f"model.build: LiteRT cannot compute the network ({entry['reason']}), and [serving] runtime = 'litert' "
            "wants it to; use runtime = 'tensorflow', or other layers"
        )
    if parameters.litert:
        log.warning("train: there will be no copy for LiteRT: %s", entry["reason"])


def _differing_layer(
    network: keras.Model, one: Mapping[str, NDArray[Any]], other: Mapping[str, NDArray[Any]], tolerance: float
) -> str:
    """The first layer with another output for the first row of two batches, as `layer 'noise'`, or `a layer`."""
    layers = [layer for layer in network.layers if not isinstance(layer, keras.layers.InputLayer)]
    try:
        within = keras.Model(network.inputs, [layer.output for layer in layers])
        outputs = [within(_tensors(inputs), training=False) for inputs in (one, other)]
    # A network that is no graph of layers, whose parts have no outputs.
    except (AttributeError, ValueError):
        return "a layer"
    for layer, *parts in zip(layers, *outputs, strict=True):
        first, second = ([np.atleast_1d(part)[0] for part in keras.tree.flatten(output)] for output in parts)
        if not all(_close(*_common(a, b), tolerance) for a, b in zip(first, second, strict=True)):
            return f"layer {layer.name!r}"
    return "a layer"


def _common(one: NDArray[Any], other: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """What two arrays have in common: of rows that were filled up to several lengths, what stands in front."""
    place = tuple(slice(min(sizes)) for sizes in zip(one.shape, other.shape, strict=True))
    return one[place], other[place]


def _close(one: NDArray[Any], other: NDArray[Any], tolerance: float) -> bool:
    # An input that is missing is NaN in both.
    if one.dtype == object or not tolerance:
        return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    return np.allclose(one, other, rtol=0, atol=tolerance, equal_nan=True)


def _tensors(inputs: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    return {name: tf.constant(array) for name, array in inputs.items()}
