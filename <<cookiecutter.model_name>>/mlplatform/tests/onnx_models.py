"""Small ONNX models for tests, node by node: no framework has to be installed that would train them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FLOAT, DOUBLE, INT64, STRING = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.STRING
# Name -> ONNX's type, and the shape with the rows; a dimension that varies has a name or None.
Values = Mapping[str, tuple[int, Sequence[int | str | None] | None]]


def model(nodes: Sequence[Any], inputs: Values, outputs: Values, **weights: NDArray[Any]) -> bytes:
    """A model as the content of its file."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    content: bytes = helper.make_model(
        graph, ir_version=9, opset_imports=[helper.make_opsetid("", 19)]
    ).SerializeToString()
    return content


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    """One operation; names separated by blanks."""
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def linear(
    columns: Sequence[str], weights: NDArray[np.float32], output: str = "probabilities", kind: int = FLOAT
) -> bytes:
    """The softmax of a linear function of columns, each (rows, 1), as scikit-learn's converter writes a table.

    weights: (columns, classes). It also gives `label`, the most probable class, as classifiers do.
    """
    return model(
        [
            node("Concat", " ".join(columns), "table", axis=1),
            node("MatMul", "table weights", "scores"),
            node("Softmax", "scores", output, axis=1),
            node("ArgMax", output, "label", axis=1, keepdims=0),
        ],
        {name: (kind, [None, 1]) for name in columns},
        {output: (kind, [None, weights.shape[1]]), "label": (INT64, [None])},
        weights=weights,
    )
