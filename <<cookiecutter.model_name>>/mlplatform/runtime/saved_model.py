"""TensorFlow: runs every model. All calls that TensorFlow leaves untyped are in here.

Never model.predict or a tf.function on a request: after a greenlet switch within one, TensorFlow's eager mode is broken
until the process ends. A session callable enters no Python of TensorFlow's that could switch.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlplatform.runtime.call import Array, ModelRejectsError, Run

SIGNATURE = "serving_default"
FREEZABLE_BYTES = 32 << 20
"""Weights up to which a model is frozen: TensorFlow takes twenty times their bytes for that, and hundred times the time
of loading the graph as it was saved. benchmarks/serving/memory.py measures both."""


@dataclass(frozen=True)
class FrozenCopy:
    """A directory for the frozen graph of a model, which loads faster than the model. model: what it is made of.

    It is used only for that model, and by the version of TensorFlow that made it.
    """

    directory: Path
    model: str

    @property
    def graph(self) -> Path:
        """The graph, a serialized GraphDef."""
        return self.directory / "graph.pb"

    @property
    def origin(self) -> Path:
        """What it is made of, and the tensors of its inputs and outputs, as JSON."""
        return self.directory / "origin.json"


def load(
    directory: Path, inputs: Sequence[str], outputs: Sequence[str], threads: int, copy: FrozenCopy | None = None
) -> Run:
    """Load a SavedModel for serving. threads: for one call. To be called once in a process, after fork.

    inputs, outputs: names in the order in which arrays are handed around. copy: used if it is there, and of this model.
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
    return open_model(directory, inputs, outputs, config, copy)


def open_model(
    directory: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
    config: Any = None,
    copy: FrozenCopy | None = None,
) -> Run:
    """Load a SavedModel in a process whose TensorFlow is set up already. config: a ConfigProto for the session.

    A model with lookup tables (TextVectorization, StringLookup, IntegerLookup with a vocabulary) or of more than
    FREEZABLE_BYTES runs from the graph as it was saved; every other one is frozen, which is faster for convolutions.
    Raises OSError or ValueError if it is no SavedModel with this signature.
    """
    import tensorflow as tf

    graph = (copy and _kept(tf, inputs, outputs, copy)) or _freeze(tf, directory, inputs, outputs)
    if graph is not None:
        call = graph.callable(tf, inputs, outputs, config)
    else:
        call = _unfrozen(tf, directory, inputs, outputs, config)
    errors = tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError, tf.errors.UnimplementedError

    def run(arrays: Sequence[Array]) -> Sequence[Array]:
        try:
            computed: Sequence[Array] = call(*arrays)
        except errors as error:
            raise ModelRejectsError(_reason(str(error.message))) from None
        return computed

    return run


def _reason(message: str) -> str:
    """The sentence within TensorFlow's message: the line before the name of the node, `[[{{node ...}}]]`."""
    lines = [line.strip() for line in message.splitlines() if line.strip()] or [""]
    named = [number for number, line in enumerate(lines) if line.startswith("[[") and number]
    return lines[named[0] - 1] if named else lines[0]


def keep(directory: Path, inputs: Sequence[str], outputs: Sequence[str], copy: FrozenCopy) -> None:
    """Write the frozen graph of a SavedModel, if it can be frozen. Raises OSError, or ValueError if it is none."""
    import tensorflow as tf

    graph = _freeze(tf, directory, inputs, outputs)
    if graph is None:
        return
    copy.directory.mkdir(parents=True, exist_ok=True)
    copy.graph.write_bytes(graph.definition.SerializeToString())
    origin = {**_origin(tf, copy), "inputs": dict(graph.inputs), "outputs": dict(graph.outputs)}
    copy.origin.write_text(json.dumps(origin), encoding="utf-8")


@dataclass(frozen=True)
class _FrozenGraph:
    """A GraphDef without variables, and the names of its tensors by those of the signature."""

    definition: Any
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]

    def callable(self, tf: Any, inputs: Sequence[str], outputs: Sequence[str], config: Any) -> Callable[..., Any]:
        graph = tf.Graph()
        with graph.as_default():
            tf.graph_util.import_graph_def(self.definition, name="")
        session = tf.compat.v1.Session(graph=graph, config=config)
        return _callable(session, [self.inputs[name] for name in inputs], [self.outputs[name] for name in outputs])


def _origin(tf: Any, copy: FrozenCopy) -> dict[str, str]:
    return {"model": copy.model, "tensorflow": str(tf.__version__)}


def _kept(tf: Any, inputs: Sequence[str], outputs: Sequence[str], copy: FrozenCopy) -> _FrozenGraph | None:
    """A frozen graph that is kept; None if there is none of this model, made by this TensorFlow."""
    if not copy.origin.is_file():
        return None
    origin = json.loads(copy.origin.read_text(encoding="utf-8"))
    takes, gives = origin.pop("inputs"), origin.pop("outputs")
    if origin != _origin(tf, copy) or takes.keys() != set(inputs) or gives.keys() != set(outputs):
        return None
    definition = tf.compat.v1.GraphDef()
    definition.ParseFromString(copy.graph.read_bytes())
    return _FrozenGraph(definition, takes, gives)


def _freeze(tf: Any, directory: Path, inputs: Sequence[str], outputs: Sequence[str]) -> _FrozenGraph | None:
    """The graph with its variables turned into constants; None where that leaves other state, or takes too much."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    if sum(path.stat().st_size for path in directory.glob("variables/*")) > FREEZABLE_BYTES:
        return None
    loaded = tf.saved_model.load(str(directory))  # holds the variables; the function alone does not
    if SIGNATURE not in loaded.signatures:
        raise ValueError(f"{directory}: has no signature {SIGNATURE!r}")
    function = loaded.signatures[SIGNATURE]
    names = sorted(outputs)
    if sorted(function.structured_outputs) != names:
        raise ValueError(f"{directory}: gives {sorted(function.structured_outputs)}, the manifest says {names}")
    try:
        frozen = convert_variables_to_constants_v2(function)
    except ValueError:
        # The model assigns to a variable as it predicts, which it cannot to a constant.
        return None
    tensors = {tensor.op.name: tensor.name for tensor in frozen.inputs}
    if tensors.keys() != set(inputs):
        # Lookup tables stay behind as an input of their own.
        return None
    # The outputs of a signature are flattened in the order of their names.
    results = dict(zip(names, (tensor.name for tensor in frozen.outputs), strict=True))
    return _FrozenGraph(frozen.graph.as_graph_def(), tensors, results)


def _unfrozen(
    tf: Any, directory: Path, inputs: Sequence[str], outputs: Sequence[str], config: Any
) -> Callable[..., Any]:
    """A callable over the graph as it was saved, its variables and tables initialised: slower, but runs every model."""
    graph = tf.Graph()
    with graph.as_default():
        session = tf.compat.v1.Session(graph=graph, config=config)
        saved = tf.compat.v1.saved_model.load(session, [tf.saved_model.SERVING], str(directory))
    definition = saved.signature_def[SIGNATURE]
    if set(definition.inputs) != set(inputs):
        raise ValueError(f"{directory}: takes {sorted(definition.inputs)}, the manifest says {sorted(inputs)}")
    return _callable(
        session, [definition.inputs[name].name for name in inputs], [definition.outputs[name].name for name in outputs]
    )


def _callable(session: Any, feed: list[str], fetch: list[str]) -> Callable[..., Any]:
    from tensorflow.core.protobuf.config_pb2 import CallableOptions

    # What Keras's backend functions were made of. The public make_callable looks up names at every call, which takes
    # longer than a small model. In the caller's thread, as handing over takes time, too.
    options = CallableOptions(feed=feed, fetch=fetch, run_options={"inter_op_thread_pool": -1})
    call: Callable[..., Any] = session._make_callable_from_options(options)
    return call
