"""What an ONNX model has to be, so that the server can compute it: its inputs, its output, its predictions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract import gate
from mlplatform.contract.errors import PipelineError
from mlplatform.contract.targets import Target
from mlplatform.data.dataset import InputSpec
from mlplatform.runtime import onnx
from mlplatform.runtime.call import DTYPES
from mlplatform.runtime.onnx import Graph, Value
from mlplatform.training.export import Predict
from mlplatform.training.preflight import ROWS_ALONE
from mlplatform.training.team_errors import sentence

# More than float32 sums in another order differ by.
TOLERANCE = 1e-3


def opened(path: Path, specs: Sequence[InputSpec], target: Target) -> Predict:
    """The model in a file, loaded as the server loads it, as a function of inputs by name.

    Raises PipelineError if it is none, or not one of these inputs and this target.
    """
    names = [one.name for one in specs]
    try:
        graph = onnx.read(path, threads=1)
    # Whatever ONNX Runtime says of a file that it cannot read.
    except Exception as error:
        reason = sentence(error).rpartition("failed:")[2].strip()
        raise PipelineError(f"model.train: the server's ONNX Runtime cannot load what it returns: {reason}") from error
    _check_inputs(graph, specs)
    _check_output(graph, target)
    run = graph.runs(names, [target.output])

    def predict(inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        try:
            (found,) = run([inputs[name] for name in names])
        except Exception as error:
            raise PipelineError(
                f"model.train: the ONNX model cannot predict {len(inputs[names[0]])} rows: {sentence(error)}"
            ) from error
        rows = len(inputs[names[0]])
        if found.ndim == 0 or len(found) != rows:
            raise PipelineError(
                f"model.train: the ONNX model's output {target.output!r} has shape {found.shape} for {rows} rows; it "
                "must have a row for a row"
            )
        if found.shape[1:] != target.row_shape:
            needed = target.output_fault((None, *found.shape[1:])) or f"(None, {', '.join(map(str, target.row_shape))})"
            raise PipelineError(
                f"model.train: the ONNX model's output {target.output!r} has shape {(None, *found.shape[1:])}; it must "
                f"be {needed}"
            )
        predictions: NDArray[np.float32] = found
        return predictions

    return predict


def _check_inputs(graph: Graph, specs: Sequence[InputSpec]) -> None:
    given = {value.name: value for value in graph.inputs}
    for value in graph.inputs:
        if value.name not in {one.name for one in specs}:
            raise PipelineError(
                f"model.train: the ONNX model's input {value.name!r} is no input of model.RECORD, whose inputs are: "
                f"{', '.join(one.name for one in specs)}; each is an input of its own, of this name"
            )
    for one in specs:
        if one.name not in given:
            raise PipelineError(
                f"model.train: the ONNX model has no input {one.name!r}, which model.RECORD has; name the inputs "
                "without it, INPUTS = (...), or let the model take it"
            )
        fault = _fault_of_input(given[one.name], one)
        if fault:
            raise PipelineError(f"model.train: the ONNX model's input {one.name!r} {fault}")


def _fault_of_input(value: Value, wanted: InputSpec) -> str:
    """Why an input of a graph cannot be fed with the record's values, as a clause; empty if it can."""
    if value.dtype not in DTYPES:
        return f"is {value.dtype}, which no request can carry; make it a tensor"
    if not value.shape:
        return "has no shape; declare it, with None for the rows"
    if value.shape[0] is not None:
        return f"has a batch of {value.shape[0]} rows; the server's varies, so declare None for the rows"
    if None in value.row_shape:
        return f"has the shape {_shown(value)}; only the rows may vary"
    if value.row_shape != wanted.shape:
        return f"has the shape {_shown(value)}, and model.RECORD's is {(None, *wanted.shape)}; make them agree"
    if value.dtype != wanted.dtype:
        return (
            f"is {value.dtype}, and model.RECORD's is {wanted.dtype}; declare it {wanted.dtype}, as in "
            f"{_declaration(wanted)} of skl2onnx, and cast it in the model"
        )
    return ""


def _declaration(spec: InputSpec) -> str:
    kinds = {"float32": "Float", "int64": "Int64", "string": "String", "bool": "Boolean"}
    return f"{kinds[spec.dtype]}TensorType([None, {', '.join(map(str, spec.shape or (1,)))}])"


def _shown(value: Value) -> str:
    return f"({', '.join(map(str, value.shape))})"


def _check_output(graph: Graph, target: Target) -> None:
    given = {value.name: value for value in graph.outputs}
    if target.output not in given:
        raise PipelineError(
            f"model.train: the ONNX model gives {', '.join(map(repr, given))}, and the target needs an output "
            f"{target.output!r}; name it so, as in final_types=[({target.output!r}, ...)] of skl2onnx"
        )
    dtype = given[target.output].dtype
    if dtype.startswith("seq("):
        raise PipelineError(
            f"model.train: the ONNX model's output {target.output!r} is {dtype}; it must be an array, so convert it "
            "with options={'zipmap': False}"
        )
    if dtype != "float32":
        raise PipelineError(
            f"model.train: the ONNX model's output {target.output!r} is {dtype}; it must be float32, so declare the "
            "inputs float32, or cast it in the model"
        )


def check_predictions(
    predict: Predict,
    inputs: Mapping[str, NDArray[Any]],
    target: Target,
) -> None:
    """Refuse predictions that are none, that differ the next time, or with the rows beside them."""
    served = predict(inputs)
    fault = target.prediction_fault(served)
    if fault:
        raise PipelineError(f"model.train: trained on a few rows, {fault}")
    if target.difference(served, predict(inputs)) > gate.EXPORT_TOLERANCE:
        raise PipelineError(
            f"model.train: for the same {len(served)} rows the ONNX model predicts something else each time; it must "
            "not be random"
        )
    rows = range(min(ROWS_ALONE, len(served)))
    alone = np.concatenate([predict({name: array[row : row + 1] for name, array in inputs.items()}) for row in rows])
    difference = target.difference(alone, served[: len(alone)])
    if difference > TOLERANCE:
        raise PipelineError(
            f"model.train: a row's prediction differs by {difference:.2g} where no other row is beside it, and the "
            "server computes rows of several requests together; compute each row by itself"
        )


def check_converted(found: NDArray[np.float32], before: NDArray[np.float32], target: Target) -> None:
    """Refuse an ONNX model that predicts something else than the model that it was converted from."""
    difference = target.difference(found, before)
    if not difference <= TOLERANCE:
        raise PipelineError(
            f"model.train: for {len(found)} rows the ONNX model differs by {difference:.2g} from the predict that came "
            "with it; let both compute the same of float32, and scale, for one, nothing that goes into trees"
        )
