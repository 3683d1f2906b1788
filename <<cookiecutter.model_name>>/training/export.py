"""The exported model: a SavedModel with one signature, which is all that serving knows."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.dataset import InputSpec, Split

OUTPUT = "probabilities"


def input_specs(network: keras.Model) -> tuple[InputSpec, ...]:
    """Name, shape of one example and dtype of each input. Raises TypeError if inputs are not a dict by name."""
    if not isinstance(network.input, dict):
        raise TypeError("model.build: give keras.Model its inputs as a dict by name, inputs={'name': ...}")
    specs = []
    for name, tensor in network.input.items():
        if None in tensor.shape[1:]:
            raise TypeError(f"model.build: input {name!r} has shape {tensor.shape}; only the batch may vary")
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        specs.append(InputSpec(name, tuple(tensor.shape[1:]), dtype))
    return tuple(specs)


def export(network: keras.Model, directory: Path) -> dict[str, Any]:
    """Write the network as a SavedModel with the signature `serving_default`, and return the signature.

    Inputs go by their names with the batch first; the output is `probabilities`, float32 (batch, classes).
    """
    specs = input_specs(network)
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


def predict(directory: Path, split: Split, batch_size: int) -> NDArray[np.float32]:
    """Probabilities (examples, classes) that the SavedModel in a directory gives for a split, in its order."""
    loaded = tf.saved_model.load(str(directory))
    serve = loaded.signatures["serving_default"]
    found = []
    for at in range(0, len(split), batch_size):
        inputs, _ = split.take(np.arange(at, min(at + batch_size, len(split))))
        found.append(serve(**{name: tf.constant(array) for name, array in inputs.items()})[OUTPUT].numpy())
    return np.concatenate(found)
