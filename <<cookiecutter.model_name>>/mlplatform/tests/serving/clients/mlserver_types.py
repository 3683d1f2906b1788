# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = ["mlserver==1.7.1", "requests"]
# ///
# mypy: ignore-errors
"""MLServer's types and codecs as sender and as judge of the answers. Arguments: port, name, version."""

import sys

import numpy as np
import requests
from mlserver import types
from mlserver.codecs import NumpyCodec

port, name, version = sys.argv[1:]
base = f"http://127.0.0.1:{port}/v2"
images = np.random.default_rng(1).uniform(0, 16, (3, 8, 8)).astype(np.float32)

types.MetadataServerResponse.model_validate(requests.get(base, timeout=9).json())
types.MetadataModelResponse.model_validate(requests.get(f"{base}/models/{name}", timeout=9).json())
request = types.InferenceRequest(id="7", inputs=[NumpyCodec.encode_input("image", images)])
reply = requests.post(f"{base}/models/{name}/infer", data=request.model_dump_json(exclude_none=True), timeout=9)
assert reply.status_code == 200, reply.text
answer = types.InferenceResponse.model_validate(reply.json())
found = NumpyCodec.decode_output(answer.outputs[0])
assert found.shape == (3, 10)
assert np.allclose(found.sum(axis=1), 1, atol=1e-5)
error = requests.post(f"{base}/models/{name}/infer", json={}, timeout=9)
assert error.status_code == 400
types.InferenceErrorResponse.model_validate(error.json())
print("ok")
