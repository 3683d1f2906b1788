"""The exported model: a SavedModel with one signature, which is all that serving knows."""

import keyword
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mlplatform.contract.errors import PipelineError
from mlplatform.contract.lengths import Length
from mlplatform.contract.runtimes import EXPORTS, exported_for
from mlplatform.contract.targets import Target
from mlplatform.data.dataset import InputSpec, Split
from mlplatform.runtime import onnx, saved_model
from mlplatform.runtime.call import DTYPES

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")

# From inputs by name, each (n, *shape), to predictions, float32 (n, *row_shape of the target).
Predict = Callable[[Mapping[str, NDArray[Any]]], NDArray[np.float32]]


def input_specs(
    network: keras.Model, target: Target, lengths: Mapping[str, Length] | None = None
) -> tuple[InputSpec, ...]:
    """Name, shape of one example and dtype of each input. lengths: of those lists in a record that have several.

    Raises PipelineError if the pipeline cannot work with the network: inputs that are no dict by name or vary in shape,
    an output that is not what the target needs.
    """
    try:
        inputs = network.input
    except (AttributeError, ValueError):
        raise PipelineError(
            "model.build: the network has no inputs, as a subclass of keras.Model before it is called; build it with "
            "keras.Model(inputs={'name': keras.Input(...)}, outputs=...)"
        ) from None
    if not isinstance(inputs, dict):
        raise PipelineError("model.build: give keras.Model its inputs as a dict by name, inputs={'name': ...}")
    fixed = [name for name, tensor in inputs.items() if tensor.shape[0] is not None]
    if fixed:
        raise PipelineError(
            f"model.build: input {fixed[0]!r} has a batch of {inputs[fixed[0]].shape[0]} rows; the server's varies, so "
            "leave out batch_size and batch_shape, and with them layers that are stateful"
        )
    output = getattr(network.output, "shape", None)
    fault = target.output_fault(output)
    if fault:
        raise PipelineError(f"model.build: the output has shape {output}; it must be {fault}")
    specs: list[InputSpec] = []
    for name, tensor in inputs.items():
        if not NAME.fullmatch(name) or name == "self" or keyword.iskeyword(name):
            raise PipelineError(
                f"model.build: input {name!r} needs a name that TensorFlow takes as it is: letters from a to z, digits "
                "and _, a letter first, and neither 'self' nor a keyword of Python; rename it, and the property of "
                "model.RECORD with it"
            )
        twin = next((spec.name for spec in specs if spec.name.lower() == name.lower()), None)
        if twin:
            raise PipelineError(
                f"model.build: inputs {twin!r} and {name!r} are one to TensorFlow, which does not tell capital letters "
                "apart; rename one, and the property of model.RECORD with it"
            )
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        length = (lengths or {}).get(name) if None in tensor.shape[1:2] and dtype != "string" else None
        if None in tensor.shape[2 if length else 1 :]:
            raise PipelineError(
                f"model.build: input {name!r} has shape {tensor.shape}; only the batch may vary, and the length of a "
                "list of numbers that has another maxItems than minItems in model.RECORD"
            )
        if dtype not in DTYPES:
            raise PipelineError(
                f"model.build: input {name!r} is {dtype}, which no request can carry; use one of {', '.join(DTYPES)}, "
                "and cast it in the network"
            )
        specs.append(InputSpec(name, tuple(tensor.shape[1:]), dtype, length=length))
    return tuple(specs)


def export(
    network: keras.Model, target: Target, directory: Path, inputs: Sequence[InputSpec] | None = None
) -> dict[str, Any]:
    """Write the network as a SavedModel with the signature `serving_default`, and return the signature.

    Inputs go by their names with the batch first; the output is the target's, float32 (batch, *row_shape).
    inputs: those of the network, with what the record says of them; None if it says nothing.
    """
    specs = inputs or input_specs(network, target)
    tensors = {spec.name: tf.TensorSpec((None, *spec.shape), spec.dtype, spec.name) for spec in specs}

    def serve(inputs: Any) -> dict[str, Any]:
        predictions = tf.cast(network(inputs, training=False), tf.float32)
        if len(predictions.shape) != 1 + len(target.row_shape):
            predictions = tf.reshape(predictions, (-1, *target.row_shape))
        return {target.output: predictions}

    # Keras's own archive leaves out the optimiser, whose moments are twice the size of the weights. It finds the
    # variables by itself, but not lookup tables. Within a module, as of a network it would store all weights twice.
    tracked = tf.Module()
    tracked.network = network
    archive = keras.export.ExportArchive()
    archive.track(tracked)
    archive.add_endpoint(saved_model.SIGNATURE, serve, input_signature=[tensors])
    archive.write_out(str(directory), verbose=False)
    return signature(specs, target)


def signature(specs: Sequence[InputSpec], target: Target) -> dict[str, Any]:
    """What a model takes and gives, as its manifest says it."""
    return {
        "inputs": [{**spec.to_json(), "shape": [None, *spec.shape]} for spec in specs],
        "outputs": [{"name": target.output, "shape": [None, *target.row_shape], "dtype": "float32"}],
    }


class Exported:
    """An exported model, loaded as the server loads it.

    Called with inputs by name, each (n, *shape), it gives predictions. signature: as `export` returned it, or the
    `signature` of the model's manifest. path: of a SavedModel, or with runtime `onnx` of an ONNX file. Raises what that
    runtime raises for what cannot be loaded.
    """

    def __init__(self, path: Path, signature: Mapping[str, Any], runtime: str = "tensorflow") -> None:
        self._inputs = [str(tensor["name"]) for tensor in signature["inputs"]]
        outputs = [str(tensor["name"]) for tensor in signature["outputs"]]
        if runtime == "onnx":
            self._run = onnx.load(path, self._inputs, outputs, threads=os.cpu_count() or 1)
            return
        # On a GPU as much memory as it needs, not all of it.
        config = tf.compat.v1.ConfigProto(allow_soft_placement=True)
        config.gpu_options.allow_growth = True
        self._run = saved_model.open_model(path, self._inputs, outputs, config)

    @classmethod
    def of(cls, content: Path, properties: Mapping[str, Any]) -> "Exported":
        """The model among the files of a published model or of a training. properties: of its manifest."""
        runtime = exported_for(properties)
        return cls(content / EXPORTS[runtime], properties["signature"], runtime)

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """See the class. Raises ModelRejectsError for values that the model cannot take."""
        (predictions,) = self._run([_as_text(inputs[name]) for name in self._inputs])
        return np.asarray(predictions, np.float32)


def _as_text(array: NDArray[Any]) -> NDArray[Any]:
    """Text as TensorFlow's sessions take it: objects, for a fixed width loses what it pads with."""
    return array.astype(object) if array.dtype.kind == "S" else array


def predict_split(predict: Predict, split: Split, batch_size: int) -> NDArray[np.float32]:
    """Predictions (examples, ...) for a split, in its order."""
    starts = range(0, len(split), batch_size)
    return np.concatenate([predict(split.take(np.arange(at, min(at + batch_size, len(split))))[0]) for at in starts])
