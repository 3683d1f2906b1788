"""MLServer with adaptive batching, in one process (`parallel_workers` 0: on one core its workers only cost).

A custom runtime, as its documentation shows. Its REST interface takes no binary tensors: the medium model's images come
as base64, which its codecs know, and its outputs go so.
"""

import numpy as np
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from saved_model import DTYPE, KIND, SHAPE, predict


class SavedModel(MLModel):
    async def load(self) -> bool:
        self.call = predict()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        if KIND == "medium":
            images = Base64Codec.decode_input(payload.inputs[0])
            rows = np.stack([np.frombuffer(image, DTYPE).reshape(SHAPE) for image in images])
            output = Base64Codec.encode_output("probabilities", [row.tobytes() for row in self.call(rows)])
        else:
            rows = NumpyCodec.decode_input(payload.inputs[0]).astype(DTYPE, copy=False)
            output = NumpyCodec.encode_output("probabilities", self.call(rows))
        return InferenceResponse(model_name=self.name, outputs=[output])
