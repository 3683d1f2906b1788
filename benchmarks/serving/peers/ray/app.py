"""Ray Serve with `serve.batch`, one replica. From the environment: PORT.

RAY_SERVE_THROUGHPUT_OPTIMIZED, set by the benchmark, is its own group of settings for throughput.
"""

import os
import time
from typing import Any

import numpy as np
import orjson
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(num_replicas=1, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0})
class Model:
    def __init__(self) -> None:
        from saved_model import DTYPE, KIND, MAX_ROWS, SHAPE, predict

        self.call, self.dtype, self.shape, self.binary = predict(), DTYPE, SHAPE, KIND == "medium"
        self.batched.set_max_batch_size(MAX_ROWS)

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.002)
    async def batched(self, rows: list[Any]) -> list[Any]:
        return list(self.call(np.stack(rows)))

    async def __call__(self, request: Request) -> Response:
        body = await request.body()
        if self.binary:
            output = await self.batched(np.frombuffer(body, self.dtype).reshape(self.shape))
            return Response(output.tobytes(), media_type="application/octet-stream")
        row = np.asarray(orjson.loads(body)["image"], self.dtype)
        output = orjson.dumps({"output": await self.batched(row)}, option=orjson.OPT_SERIALIZE_NUMPY)
        return Response(output, media_type="application/json")


ray.init(num_cpus=1, include_dashboard=False, logging_level="warning", _temp_dir=os.environ["RAY_TEMPORARY"])
serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])})
serve.run(Model.bind(), name="model", route_prefix="/")
while True:
    time.sleep(1)
