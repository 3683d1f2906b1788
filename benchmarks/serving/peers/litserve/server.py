"""LitServe with batching and its ZeroMQ queue (`fast_queue`), one worker. From the environment: PORT.

JSON for the small model. For the medium one a multipart form with a file, the documented way to send bytes; its answer
is bytes, too.
"""

import os
from typing import Any

import litserve
import numpy as np
import orjson
from fastapi import Response
from saved_model import DTYPE, KIND, MAX_ROWS, SHAPE, predict


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.call = predict()

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # an annotation is a body to parse
        if KIND == "medium":
            return np.frombuffer(request["content"].file.read(), DTYPE).reshape(SHAPE)
        return np.asarray(request["image"], DTYPE)

    def batch(self, inputs: list[Any]) -> Any:
        return np.stack(inputs)

    def predict(self, rows: Any) -> Any:
        return self.call(rows)

    def unbatch(self, output: Any) -> Any:
        return output

    def encode_response(self, output: Any) -> Response:
        if KIND == "medium":
            return Response(output.tobytes(), media_type="application/octet-stream")
        body = orjson.dumps({"output": output}, option=orjson.OPT_SERIALIZE_NUMPY)
        return Response(body, media_type="application/json")


if __name__ == "__main__":
    api = Api(max_batch_size=MAX_ROWS, batch_timeout=0.002)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), generate_client_file=False, log_level="warning")
