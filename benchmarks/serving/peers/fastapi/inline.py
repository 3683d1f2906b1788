"""FastAPI on uvicorn (uvloop, httptools), calling the signature for each request. From the environment: PORT.

The faster of the two ways: `async def` and the bytes of the body, not a Pydantic model in a thread pool.
"""

import os

import numpy as np
import orjson
import uvicorn
from fastapi import FastAPI, Request, Response
from saved_model import DTYPE, SHAPE, predict

call = predict()
app = FastAPI()


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/predict")
async def json_rows(request: Request) -> Response:
    rows = np.asarray(orjson.loads(await request.body())["instances"], DTYPE).reshape(-1, *SHAPE)
    body = orjson.dumps({"predictions": call(rows)}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, media_type="application/json")


@app.post("/binary")
async def binary_rows(request: Request) -> Response:
    rows = np.frombuffer(await request.body(), DTYPE).reshape(-1, *SHAPE)
    return Response(call(rows).tobytes(), media_type="application/octet-stream")


uvicorn.run(app, port=int(os.environ["PORT"]), log_level="warning", access_log=False)
