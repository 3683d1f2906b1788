"""What a FastAPI user would write by hand: our batching on uvicorn. From the environment: PORT, MODEL (a SavedModel).

Frozen graph through a session callable, gc.freeze, one batch of whatever has arrived in a turn of the event loop.
Deliberately without our validation, limits, deadlines and draining, so that the comparison errs in its favour.
"""

import asyncio
import gc
import os

import numpy as np
import orjson
import tensorflow as tf
import uvicorn
from fastapi import FastAPI, Request, Response
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
loaded = tf.saved_model.load(os.environ["MODEL"])
frozen = convert_variables_to_constants_v2(loaded.signatures["serving_default"])
graph = tf.Graph()
with graph.as_default():
    tf.graph_util.import_graph_def(frozen.graph.as_graph_def(), name="")
config = tf.compat.v1.ConfigProto(
    intra_op_parallelism_threads=1, inter_op_parallelism_threads=1, use_per_session_threads=True
)
session = tf.compat.v1.Session(graph=graph, config=config)
call = session.make_callable(frozen.outputs[0].name, [frozen.inputs[0].name])
for size in (1, 2, 4, 8, 16, 32, 64):
    call(np.zeros((size, 8, 8), np.float32))

queue: list[tuple[np.ndarray, asyncio.Future]] = []


def flush() -> None:
    while queue:
        batch = [queue.pop(0) for _ in range(min(64, len(queue)))]
        outputs = call(np.concatenate([array for array, _ in batch]))
        start = 0
        for array, future in batch:
            future.set_result(outputs[start : start + len(array)])
            start += len(array)


app = FastAPI()


@app.post("/predict")
async def predict(request: Request) -> Response:
    array = np.asarray(orjson.loads(await request.body())["instances"], np.float32).reshape(-1, 8, 8)
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    queue.append((array, future))
    if len(queue) == 1:
        loop.call_soon(loop.call_soon, flush)
    outputs = await future
    body = b'{"predictions":' + orjson.dumps(outputs, option=orjson.OPT_SERIALIZE_NUMPY) + b"}"
    return Response(body, media_type="application/json")


@app.post("/inline")
async def inline(request: Request) -> Response:
    """Without a batcher: the signature's frozen graph, called for each request."""
    array = np.asarray(orjson.loads(await request.body())["instances"], np.float32).reshape(-1, 8, 8)
    body = b'{"predictions":' + orjson.dumps(call(array), option=orjson.OPT_SERIALIZE_NUMPY) + b"}"
    return Response(body, media_type="application/json")


gc.collect()
gc.freeze()
uvicorn.run(app, port=int(os.environ["PORT"]), log_level="warning", access_log=False)
