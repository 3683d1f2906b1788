# /// script
# requires-python = ">=3.11"
# dependencies = ["tritonclient[http]==2.73.*", "setuptools<82"]
# ///
# mypy: ignore-errors
"""NVIDIA's client, with its defaults: binary both ways. Arguments: port, name, version."""

import sys

import numpy as np
import tritonclient.http as triton

port, name, version = sys.argv[1:]
client = triton.InferenceServerClient(f"127.0.0.1:{port}")
assert client.is_server_live()
assert client.is_server_ready()
assert client.is_model_ready(name)
assert client.is_model_ready(name, version)
assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
metadata = client.get_model_metadata(name)
assert metadata["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 8, 8]}], metadata

images = np.random.default_rng(1).uniform(0, 16, (5, 8, 8)).astype(np.float32)
answers = []
for binary_in in (True, False):
    image = triton.InferInput("image", images.shape, "FP32")
    image.set_data_from_numpy(images, binary_data=binary_in)
    for outputs in (
        None,
        [triton.InferRequestedOutput("probabilities", binary_data=True)],
        [triton.InferRequestedOutput("probabilities", binary_data=False)],
    ):
        for compression in (None, "gzip", "deflate"):
            result = client.infer(
                name,
                [image],
                outputs=outputs,
                request_id="7",
                model_version=version,
                request_compression_algorithm=compression,
                response_compression_algorithm=compression,
            )
            assert result.get_response()["id"] == "7"
            answers.append(result.as_numpy("probabilities"))
assert all(answer.shape == (5, 10) for answer in answers)
assert all(np.allclose(answer, answers[0], atol=1e-6) for answer in answers)
assert np.allclose(answers[0].sum(axis=1), 1, atol=1e-5)

asynchronous = [client.async_infer(name, [image]) for _ in range(4)]
assert all(np.allclose(each.get_result().as_numpy("probabilities"), answers[0]) for each in asynchronous)

wrong = triton.InferInput("image", [1, 8], "FP32")
wrong.set_data_from_numpy(np.zeros((1, 8), np.float32))
try:
    client.infer(name, [wrong])
except triton.InferenceServerException as error:
    assert "inputs[0].shape is [1,8]; expected [-1, 8, 8]" in error.message(), error
else:
    raise AssertionError("a wrong shape was accepted")
print("ok")
