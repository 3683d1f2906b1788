"""The served SavedModel as a function, for all peers.

From the environment: MODEL, its directory; KIND, small or medium.

`predict` calls the signature, as the documentation of TensorFlow shows; `frozen` is the fastest of TensorFlow's public
interface, for the hand-written batcher; ours goes one layer below it. One thread for a call, one between calls, as in
our server on one core.
"""

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import numpy as np
import tensorflow as tf

KIND = os.environ["KIND"]
SHAPE = {"small": (8, 8), "medium": (96, 96, 3)}[KIND]
DTYPE = {"small": np.float32, "medium": np.uint8}[KIND]
MAX_ROWS = {"small": 64, "medium": 16}[KIND]
Predict = Callable[[Any], Any]


def _warm(call: Predict) -> Predict:
    rows = 1
    while rows <= MAX_ROWS:
        call(np.zeros((rows, *SHAPE), DTYPE))
        rows *= 2
    return call


def _one_thread() -> None:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def predict() -> Predict:
    """Rows to probabilities, through the signature. Every batch size has been run."""
    _one_thread()
    loaded = tf.saved_model.load(os.environ["MODEL"])
    signature = loaded.signatures["serving_default"]

    def call(rows: Any, _keep: Any = loaded) -> Any:
        return signature(image=tf.constant(rows))["probabilities"].numpy()

    return _warm(call)


def frozen() -> Predict:
    """Rows to probabilities, through a session callable over the graph with its variables as constants."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    _one_thread()
    loaded = tf.saved_model.load(os.environ["MODEL"])
    function = convert_variables_to_constants_v2(loaded.signatures["serving_default"])
    graph = tf.Graph()
    with graph.as_default():
        tf.graph_util.import_graph_def(function.graph.as_graph_def(), name="")
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=1, inter_op_parallelism_threads=1, use_per_session_threads=True
    )
    session = tf.compat.v1.Session(graph=graph, config=config)
    return _warm(session.make_callable(function.outputs[0].name, [function.inputs[0].name]))
