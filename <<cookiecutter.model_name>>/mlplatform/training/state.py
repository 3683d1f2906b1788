"""All state of a training step: what a checkpoint has to hold for a run to resume as if it had never stopped.

Keras knows most of it. The rest is found by tracing a step without computing it: whatever variables it captures, such
as those of Keras's global seed generator or of a layer's own making, are state, too.
"""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mlplatform.contract.errors import PipelineError
from mlplatform.data.dataset import Split

# Operations with a state that is in no variable, and what to use instead.
RANDOM = "keras.random, or a layer of Keras, whose seeds are variables"
HIDDEN = {
    **dict.fromkeys(("RandomUniform", "RandomUniformInt", "RandomStandardNormal", "TruncatedNormal"), RANDOM),
    **dict.fromkeys(("RandomShuffle", "RandomGamma", "RandomPoissonV2", "Multinomial"), RANDOM),
    **dict.fromkeys(("PyFunc", "EagerPyFunc"), "operations of Keras or TensorFlow"),
    **dict.fromkeys(("MutableHashTableV2", "MutableDenseHashTableV2"), "keras.layers.StringLookup with a vocabulary"),
}


def variables(network: keras.Model, train: Split) -> list[Any]:
    """Every variable of the network's training step, in an order that follows from the code.

    network: built, with its metrics and the optimiser of `compile`. Raises PipelineError, before a run starts that
    could not be resumed, for state that cannot be saved.
    """
    # To be found, what is made when it is first needed has to be there: tracing makes it.
    captured = _traced(network, train)
    known = [
        *network.variables,
        *(variable for optimizer in _optimizers(network) for variable in optimizer.variables),
        *network.metrics_variables,
    ]
    parts = {id(part) for variable in known for part in _parts(variable)}
    return [*known, *(variable for variable in captured if id(variable) not in parts)]


def _traced(network: keras.Model, train: Split) -> list[Any]:
    """The variables that a training step captures. Raises PipelineError for state beside them."""
    inputs, truth = train.take(np.zeros(1, np.int64))

    def step(data: Any) -> Any:
        return tf.distribute.get_strategy().run(network.train_step, args=(data,))

    data = ({name: tf.constant(array) for name, array in inputs.items()}, tf.nest.map_structure(tf.constant, truth))
    # As Keras does, without AutoGraph.
    try:
        graph = tf.function(step, autograph=False).get_concrete_function(data).graph
    except Exception as error:
        if not network.run_eagerly:
            raise
        raise PipelineError(
            f"model.build: leave out run_eagerly=True; a step that runs only so ({str(error).strip().splitlines()[0]}) "
            "may have state that no checkpoint holds"
        ) from error
    for operation in _operations(graph):
        if operation in HIDDEN:
            raise PipelineError(
                f"model.build: a training step uses TensorFlow's {operation}, whose state no checkpoint can hold; use "
                f"{HIDDEN[operation]}"
            )
    # In the order of their creation: the graph holds them in that of a set.
    return sorted(graph.variables, key=lambda variable: int(variable._unique_id.rpartition("_")[2]))


def _operations(graph: Any) -> Iterator[str]:
    definition = graph.as_graph_def()
    for nodes in (definition.node, *(function.node_def for function in definition.library.function)):
        yield from (node.op for node in nodes)


def _optimizers(network: keras.Model) -> list[Any]:
    """The optimiser of `compile`, and those that the network holds beside it, each once."""
    optimizers: list[Any] = []
    for value in (network.optimizer, *_values(vars(network))):
        for optimizer in (value, getattr(value, "inner_optimizer", None)):
            if isinstance(optimizer, keras.optimizers.Optimizer) and not any(optimizer is one for one in optimizers):
                optimizers.append(optimizer)
    for optimizer in optimizers:
        if not optimizer.built:
            raise PipelineError(
                f"model.build: the network holds an optimizer ({type(optimizer).__name__}) that a training step does "
                "not use, so what state it will have is not known; leave it out, or call its build(variables)"
            )
    return optimizers


def _values(attributes: Any) -> Iterator[Any]:
    for value in list(attributes.values()) if isinstance(attributes, dict) else attributes:
        if isinstance(value, dict | list | tuple):
            yield from _values(value)
        else:
            yield value


def _parts(variable: Any) -> tuple[Any, ...]:
    """TensorFlow's variables below one of Keras's: one for each device."""
    inner = getattr(variable, "value", variable)
    return tuple(getattr(inner, "values", (inner,)))
