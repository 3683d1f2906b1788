"""Granian, HTTP in Rust, with our batching written by hand, through RSGI, its own and fastest interface; gc.freeze."""

import gc
from typing import Any

import numpy as np
import orjson
from batcher import submit
from saved_model import DTYPE, SHAPE

JSON = [("content-type", "application/json")]
BYTES = [("content-type", "application/octet-stream")]


async def app(scope: Any, protocol: Any) -> None:
    """Answer one request."""
    if scope.path == "/health":
        protocol.response_bytes(200, JSON, b'{"status":"ok"}')
        return
    body = await protocol()
    if scope.path == "/predict":
        rows = np.asarray(orjson.loads(body)["instances"], DTYPE).reshape(-1, *SHAPE)
        answer = orjson.dumps({"predictions": await submit(rows)}, option=orjson.OPT_SERIALIZE_NUMPY)
        protocol.response_bytes(200, JSON, answer)
    else:
        rows = np.frombuffer(body, DTYPE).reshape(-1, *SHAPE)
        protocol.response_bytes(200, BYTES, (await submit(rows)).tobytes())


gc.collect()
gc.freeze()
