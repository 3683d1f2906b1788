"""A package as model/ is, whose `train` makes an ONNX model: of two columns and a text, by least squares."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mlplatform.contract.examples import Examples
from mlplatform.tests.onnx_models import FLOAT, INT64, STRING, model, node

DATA = Path(__file__).parent / "data"
LABELS = ("below", "above")
INPUTS = ("x", "count", "colour")
RECORD = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "x": {"type": "number"},
        "count": {"type": "integer"},
        "colour": {"enum": ["red", "blue"]},
        "patient": {"type": "string"},
        "label": {"enum": list(LABELS)},
    },
    "required": ["x", "count", "colour", "label"],
}


@dataclass(frozen=True)
class Hyperparameters:
    """One of them."""

    steepness: float = field(default=20.0, metadata={"gt": 0, "description": "how sure it is"})


def train(hyperparameters: Hyperparameters, train: Examples, validation: Examples) -> bytes:
    """Softmax of a linear function."""
    assert list(train.inputs) == list(INPUTS)
    assert len(validation)
    red = (train.inputs["colour"] == "red").astype(np.float32)
    columns = np.stack([train.inputs["x"], train.inputs["count"].astype(np.float32), red, np.ones_like(red)], axis=1)
    solved, *_ = np.linalg.lstsq(columns, np.eye(2, dtype=np.float32)[train.truth] * hyperparameters.steepness)
    nodes = [
        node("Cast", "count", "number", to=FLOAT),
        node("Equal", "colour red", "is_red"),
        node("Cast", "is_red", "redness", to=FLOAT),
        node("Concat", "x number redness", "columns", axis=1),
        node("Gemm", "columns weights bias", "scores"),
        node("Softmax", "scores", "probabilities", axis=1),
    ]
    return model(
        nodes,
        {"x": (FLOAT, [None, 1]), "count": (INT64, [None, 1]), "colour": (STRING, [None, 1])},
        {"probabilities": (FLOAT, [None, 2])},
        weights=solved[:3].astype(np.float32),
        bias=solved[3].astype(np.float32),
        red=np.array(["red"], object),
    )
