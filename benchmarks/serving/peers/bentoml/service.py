"""BentoML with adaptive batching (`batchable=True`), one worker.

Arrays of numbers are JSON lists for BentoML, and its binary form is refused from outside: the medium model's images
come as base64 strings, and its outputs go so.
"""

import base64
from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import DType, Shape
from saved_model import DTYPE, MAX_ROWS, SHAPE, predict

Rows = Annotated[np.ndarray, Shape((-1, 8, 8)), DType("float32")]
Outputs = Annotated[np.ndarray, DType("float32")]


@bentoml.service(
    workers=1,
    traffic={"timeout": 60},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Model:
    def __init__(self) -> None:
        self.call = predict()

    @bentoml.api(batchable=True, max_batch_size=MAX_ROWS, max_latency_ms=60_000)
    def predict(self, rows: Rows) -> Outputs:
        return self.call(np.asarray(rows, DTYPE))

    @bentoml.api(batchable=True, max_batch_size=MAX_ROWS, max_latency_ms=60_000)
    def predict_base64(self, images: list[str]) -> list[str]:
        rows = np.stack([np.frombuffer(base64.b64decode(image), DTYPE).reshape(SHAPE) for image in images])
        return [base64.b64encode(output).decode() for output in self.call(rows)]
