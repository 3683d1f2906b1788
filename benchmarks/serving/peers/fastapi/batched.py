"""What a FastAPI user would write by hand: our batching on uvicorn (uvloop, httptools), gc.freeze.

From the environment: PORT.
"""

import gc
import os

import numpy as np
import orjson
import uvicorn
from batcher import submit
from fastapi import FastAPI, Request, Response
from saved_model import DTYPE, SHAPE

app = FastAPI()


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/predict")
async def json_rows(request: Request) -> Response:
    rows = np.asarray(orjson.loads(await request.body())["instances"], DTYPE).reshape(-1, *SHAPE)
    body = orjson.dumps({"predictions": await submit(rows)}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, media_type="application/json")


@app.post("/binary")
async def binary_rows(request: Request) -> Response:
    rows = np.frombuffer(await request.body(), DTYPE).reshape(-1, *SHAPE)
    return Response((await submit(rows)).tobytes(), media_type="application/octet-stream")


@app.post("/nothing")
async def nothing(request: Request) -> Response:
    """HTTP without a model: parse the body, answer with a constant of the same form."""
    rows = len(orjson.loads(await request.body())["instances"])
    body = orjson.dumps({"predictions": [[0.1] * 10] * rows})
    return Response(body, media_type="application/json")


gc.collect()
gc.freeze()
uvicorn.run(app, port=int(os.environ["PORT"]), log_level="warning", access_log=False)
