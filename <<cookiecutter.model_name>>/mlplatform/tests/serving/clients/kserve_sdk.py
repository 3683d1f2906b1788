# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["kserve==0.21.*"]
# ///
# mypy: ignore-errors
"""KServe's REST client, V1 and V2. Arguments: port, name, version."""

import asyncio
import sys

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

port, name, version = sys.argv[1:]
base = f"http://127.0.0.1:{port}"
images = np.random.default_rng(1).uniform(0, 16, (3, 8, 8)).astype(np.float32)


async def main() -> None:
    v1 = InferenceRESTClient(RESTConfig(protocol="v1", retries=0))
    assert await v1.is_server_live(base)
    assert await v1.is_model_ready(base, name)
    by_row = await v1.infer(base, {"instances": images.tolist()}, model_name=name)
    by_row = np.array(by_row["predictions"], np.float32)
    assert by_row.shape == (3, 10)

    v2 = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    assert await v2.is_server_live(base)
    assert await v2.is_server_ready(base)
    assert await v2.is_model_ready(base, name)
    for binary in (False, True):
        tensor = InferInput("image", list(images.shape), "FP32")
        tensor.set_data_from_numpy(images, binary_data=binary)
        request = InferRequest(name, [tensor], request_id="7", parameters={"binary_data_output": binary})
        answer = await v2.infer(base, request, model_name=name)
        assert (answer.id, answer.model_name) == ("7", name)
        assert np.allclose(answer.outputs[0].as_numpy(), by_row, atol=1e-6)


asyncio.run(main())
print("ok")
