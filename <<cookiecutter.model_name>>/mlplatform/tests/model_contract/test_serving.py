"""The contract of a model with the server: whatever the protocol and the runtime, it predicts what was exported."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from mlplatform.contract.runtimes import exported_for
from mlplatform.serving.model.runtime import load_model, sample_rows
from mlplatform.serving.model.signature import read_signature
from mlplatform.store.manifest import Manifest, read_directory
from mlplatform.tests.model_contract import protocols
from mlplatform.tests.model_contract.conftest import Trained
from mlplatform.tests.model_contract.protocols import Predictions
from mlplatform.tests.serving.running import Running, serving

Ask = Callable[[Running, Sequence[Mapping[str, Any]]], Predictions]
# LiteRT adds up in another order; the gate holds its copy to the same bound.
CLOSE = 1e-4


@pytest.fixture(scope="module")
def exported(trained: Trained, instances: list[dict[str, Any]]) -> Predictions:
    """What the exported model predicts for the samples, computed in this process without the server."""
    manifest, content = read_directory(trained.published)
    runtime = exported_for(manifest.properties)
    path = content / manifest.properties["runtimes"][runtime]["path"]
    if runtime == "onnx":
        signature = read_signature(manifest.properties)
        found = load_model(runtime, path, signature, threads=1)(sample_rows(manifest.properties, signature))
        return {tensor.name: array for tensor, array in zip(signature.outputs, found, strict=True)}
    import tensorflow as tf

    saved_model = tf.saved_model.load(str(path))
    inputs = {}
    for tensor in manifest.properties["signature"]["inputs"]:
        values = [instance[tensor["name"]] for instance in instances]
        # NumPy makes NaN of what is missing.
        inputs[tensor["name"]] = tf.constant(
            np.vectorize(protocols.as_bytes, otypes=[object])(values)
            if tensor["dtype"] == "string"
            else protocols.as_array(values, tensor).astype(tensor["dtype"]),
            tensor["dtype"],
        )
    outputs = saved_model.signatures["serving_default"](**inputs)
    return {name: output.numpy() for name, output in outputs.items()}


def assert_same(predictions: Predictions, expected: Predictions) -> None:
    assert predictions.keys() == expected.keys()
    for name, values in predictions.items():
        if expected[name].dtype.kind == "f":
            np.testing.assert_allclose(values, expected[name], atol=CLOSE, err_msg=name)
        else:
            np.testing.assert_array_equal(values, expected[name], err_msg=name)


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(protocols.v1_rows, id="V1 rows"),
        pytest.param(protocols.v1_columns, id="V1 columns"),
        pytest.param(protocols.v2_json, id="V2 JSON"),
        pytest.param(protocols.v2_binary, id="V2 binary"),
    ],
)
def test_predicts_what_was_exported(
    server: Running, instances: list[dict[str, Any]], exported: Predictions, ask: Ask
) -> None:
    assert_same(ask(server, instances), exported)


def test_a_row_alone_is_predicted_as_in_a_batch(
    server: Running, instances: list[dict[str, Any]], exported: Predictions
) -> None:
    assert_same(protocols.v1_rows(server, instances[:1]), {name: values[:1] for name, values in exported.items()})


def test_litert_predicts_the_same_or_refuses_the_model(
    trained: Trained, manifest: Manifest, instances: list[dict[str, Any]], exported: Predictions
) -> None:
    with serving(trained.directory / "service.toml", runtime="litert") as running:
        if manifest.properties["runtimes"].get("litert", {}).get("valid"):
            running.wait_for(200)
            assert_same(protocols.v1_rows(running, instances), exported)
        else:
            assert running.process.wait(60) != 0
            assert f"use runtime = {exported_for(manifest.properties)!r}" in running.log


def test_an_instance_without_one_of_the_inputs_is_refused_by_its_name_unless_it_may_be_missing(
    server: Running, manifest: Manifest, instances: list[dict[str, Any]]
) -> None:
    for tensor in manifest.properties["signature"]["inputs"]:
        incomplete = {name: value for name, value in instances[0].items() if name != tensor["name"]}
        reply = server.predict({"instances": [incomplete]})
        if (tensor.get("nullable") or "missing" in tensor) and not tensor.get("length"):
            assert reply.status == 200, reply.body
            assert reply.body == server.predict({"instances": [{**incomplete, tensor["name"]: None}]}).body
        else:
            assert reply.status == 400, reply.body
            assert repr(tensor["name"]) in reply.error


def test_a_value_of_the_wrong_type_is_refused_with_its_place(
    server: Running, manifest: Manifest, instances: list[dict[str, Any]]
) -> None:
    for tensor in manifest.properties["signature"]["inputs"]:
        reply = server.predict({"instances": [{**instances[0], tensor["name"]: {"not": "a value"}}]})
        assert reply.status == 400, reply.body
        assert tensor["name"] in reply.error


def test_the_page_and_the_openapi_document_are_served(server: Running) -> None:
    assert server.get("/").status == 200
    assert server.get("/openapi.json").body["openapi"].startswith("3.")
