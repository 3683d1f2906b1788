"""TensorFlow: runs every model. All calls that TensorFlow leaves untyped are in here.

Never model.predict or a tf.function on a request: after a greenlet switch within one, TensorFlow's eager mode is broken
until the process ends (46 of 48 concurrent requests failed, then all). A session callable enters no Python of
TensorFlow's that could switch, and on frozen variables is 1.5 times faster (474 rows/s against 309).
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mlplatform.serving.errors import ModelRejectsError
from mlplatform.serving.model.batching import Run
from mlplatform.serving.model.signature import Array, Signature

SIGNATURE = "serving_default"


def load(directory: Path, signature: Signature, threads: int) -> Run:
    """Load a SavedModel. threads: for one call. To be called once in a process, after fork.

    Raises OSError or ValueError if it is no SavedModel with this signature.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    # Serving is on the CPU; a visible GPU would be initialised and its memory taken.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=threads, inter_op_parallelism_threads=1, use_per_session_threads=True
    )
    call = _frozen(tf, directory, signature, config) or _unfrozen(tf, directory, signature, config)
    errors = tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError, tf.errors.UnimplementedError

    def run(inputs: Sequence[Array]) -> Sequence[Array]:
        try:
            outputs: Sequence[Array] = call(*inputs)
        except errors as error:
            raise ModelRejectsError(_reason(str(error.message))) from None
        return outputs

    return run


def _reason(message: str) -> str:
    """The sentence within TensorFlow's message: the line before the name of the node, `[[{{node ...}}]]`."""
    lines = [line.strip() for line in message.splitlines() if line.strip()] or [""]
    named = [number for number, line in enumerate(lines) if line.startswith("[[") and number]
    return lines[named[0] - 1] if named else lines[0]


def _frozen(tf: Any, directory: Path, signature: Signature, config: Any) -> Callable[..., Any] | None:
    """A callable over the graph with its variables turned into constants; None where that leaves other state."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    loaded = tf.saved_model.load(str(directory))  # holds the variables; the function alone does not
    function = loaded.signatures[SIGNATURE]
    names = sorted(tensor.name for tensor in signature.outputs)
    if sorted(function.structured_outputs) != names:
        raise ValueError(f"{directory}: gives {sorted(function.structured_outputs)}, the manifest says {names}")
    frozen = convert_variables_to_constants_v2(function)
    inputs = {tensor.op.name: tensor.name for tensor in frozen.inputs}
    if inputs.keys() != {tensor.name for tensor in signature.inputs}:
        # Lookup tables stay behind as an input of their own.
        return None
    # The outputs of a signature are flattened in the order of their names.
    outputs = dict(zip(names, (tensor.name for tensor in frozen.outputs), strict=True))
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(frozen.graph.as_graph_def(), name="")
    session = tf.compat.v1.Session(graph=graph, config=config)
    return _callable(session, signature, inputs, outputs)


def _unfrozen(tf: Any, directory: Path, signature: Signature, config: Any) -> Callable[..., Any]:
    """A callable over the graph as it was saved, its variables and tables initialised: slower, but runs every model."""
    graph = tf.Graph()
    with graph.as_default():
        session = tf.compat.v1.Session(graph=graph, config=config)
        saved = tf.compat.v1.saved_model.load(session, [tf.saved_model.SERVING], str(directory))
    definition = saved.signature_def[SIGNATURE]
    inputs = {name: info.name for name, info in definition.inputs.items()}
    outputs = {name: info.name for name, info in definition.outputs.items()}
    if inputs.keys() != {tensor.name for tensor in signature.inputs}:
        raise ValueError(f"{directory}: takes {sorted(inputs)}, the manifest says otherwise")
    return _callable(session, signature, inputs, outputs)


def _callable(
    session: Any, signature: Signature, inputs: dict[str, str], outputs: dict[str, str]
) -> Callable[..., Any]:
    from tensorflow.core.protobuf.config_pb2 import CallableOptions

    # What Keras's backend functions were made of. The public make_callable looks up names at every call: 204 us for one
    # row of the digits against 66. In the caller's thread, for another one is another 14 us.
    options = CallableOptions(
        feed=[inputs[tensor.name] for tensor in signature.inputs],
        fetch=[outputs[tensor.name] for tensor in signature.outputs],
        run_options={"inter_op_thread_pool": -1},
    )
    call: Callable[..., Any] = session._make_callable_from_options(options)
    return call
