"""The exported model: a SavedModel with one signature, which is all that serving knows."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mlplatform.contract.errors import PipelineError
from mlplatform.data.dataset import InputSpec, Split

OUTPUT = "probabilities"

# From inputs by name, each (n, *shape), to probabilities, float32 (n, classes).
Predict = Callable[[Mapping[str, NDArray[Any]]], NDArray[np.float32]]


def input_specs(network: keras.Model, classes: int) -> tuple[InputSpec, ...]:
    """Name, shape of one example and dtype of each input.

    Raises PipelineError if the pipeline cannot work with the network: inputs that are no dict by name or vary in shape,
    an output that is not one tensor (batch, classes).
    """
    if not isinstance(network.input, dict):
        raise PipelineError("model.build: give keras.Model its inputs as a dict by name, inputs={'name': ...}")
    output = getattr(network.output, "shape", None)
    if output != (None, classes):
        raise PipelineError(
            f"model.build: the output has shape {output}; it must be one probability for each of the {classes} labels "
            f"of model.LABELS, (None, {classes})"
        )
    specs = []
    for name, tensor in network.input.items():
        if None in tensor.shape[1:]:
            raise PipelineError(f"model.build: input {name!r} has shape {tensor.shape}; only the batch may vary")
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        specs.append(InputSpec(name, tuple(tensor.shape[1:]), dtype))
    return tuple(specs)


def export(network: keras.Model, directory: Path) -> dict[str, Any]:
    """Write the network as a SavedModel with the signature `serving_default`, and return the signature.

    Inputs go by their names with the batch first; the output is `probabilities`, float32 (batch, classes).
    """
    specs = input_specs(network, network.output.shape[-1])
    tensors = {spec.name: tf.TensorSpec((None, *spec.shape), spec.dtype, spec.name) for spec in specs}

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def serve(**inputs: Any) -> dict[str, Any]:
        return {OUTPUT: tf.cast(network(inputs, training=False), tf.float32)}

    module = tf.Module()
    # The module has to own the variables, or the SavedModel would lack them.
    module.network = network
    tf.saved_model.save(module, str(directory), signatures={"serving_default": serve.get_concrete_function(**tensors)})
    return {
        "inputs": [{"name": s.name, "shape": [None, *s.shape], "dtype": s.dtype} for s in specs],
        "outputs": [{"name": OUTPUT, "shape": [None, network.output.shape[-1]], "dtype": "float32"}],
    }


class Exported:
    """The SavedModel in a directory: called with inputs by name, each (n, *shape), it gives probabilities."""

    def __init__(self, directory: Path) -> None:
        # Kept: the signature alone does not keep the model's variables alive.
        self._loaded = tf.saved_model.load(str(directory))
        self._serve = self._loaded.signatures["serving_default"]

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """See the class."""
        outputs = self._serve(**{name: tf.constant(array) for name, array in inputs.items()})
        return np.asarray(outputs[OUTPUT])


def predict_split(predict: Predict, split: Split, batch_size: int) -> NDArray[np.float32]:
    """Probabilities (examples, classes) for a split, in its order."""
    starts = range(0, len(split), batch_size)
    return np.concatenate([predict(split.take(np.arange(at, min(at + batch_size, len(split))))[0]) for at in starts])
