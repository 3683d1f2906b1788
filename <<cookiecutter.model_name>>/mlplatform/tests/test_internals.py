"""Private parts of other libraries that the platform relies on. Where one is gone, the name says where to look.

requirements/*.in caps each of these libraries: a newer one has to pass this first.
"""

import inspect
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements"


def test_gunicorns_worker_still_has_what_serving_http_worker_overrides() -> None:
    from gunicorn.workers.ggevent import GeventWorker

    for method in ("patch", "handle_exit", "run", "notify", "init_process"):
        assert callable(getattr(GeventWorker, method))


def test_dogstatsd_still_reports_a_distribution_as_telemetry_metrics_writes_it() -> None:
    from datadog.dogstatsd.base import DogStatsd

    parameters = list(inspect.signature(DogStatsd._report).parameters)
    assert parameters[:6] == ["self", "metric", "metric_type", "value", "tags", "sample_rate"]
    assert "sampling" in parameters
    assert hasattr(DogStatsd(disable_telemetry=True), "packets_dropped")


def test_datadogs_api_client_still_keeps_values_where_delivery_datadog_resources_reads_them() -> None:
    from datadog_api_client.v1.model.monitor_options import MonitorOptions

    assert MonitorOptions(notify_no_data=True)._data_store["notify_no_data"] is True


def test_tensorflows_session_still_makes_the_callable_of_runtime_saved_model() -> None:
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants

    assert callable(tf.compat.v1.Session._make_callable_from_options)
    assert callable(convert_to_constants.convert_variables_to_constants_v2)


def test_keras_still_has_the_train_function_that_training_fitting_drives() -> None:
    import keras

    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    network.compile("sgd", "mse")
    network.make_train_function()
    assert callable(network.train_function)


def test_keras_still_lists_the_layers_within_layers_for_training_vocabularies_and_training_callbacks() -> None:
    import keras

    vectors = keras.layers.TextVectorization()
    network = keras.Sequential([keras.Input((1,), dtype="string"), keras.Sequential([vectors])])
    assert any(layer is vectors for layer in network._flatten_layers(include_self=False))


@pytest.mark.parametrize(
    ("library", "files"),
    [
        ("gevent", ("serving", "serving-litert", "serving-onnx")),
        ("gunicorn[gevent]", ("serving", "serving-litert", "serving-onnx")),
        ("httptools", ("serving", "serving-litert", "serving-onnx")),
        ("datadog", ("serving", "serving-litert", "serving-onnx", "training", "training-gpu", "delivery")),
        ("datadog-api-client", ("delivery",)),
        ("keras", ("training", "training-gpu")),
    ],
)
def test_each_of_them_is_capped_wherever_it_is_named(library: str, files: tuple[str, ...]) -> None:
    for name in files:
        lines = (REQUIREMENTS / f"{name}.in").read_text(encoding="utf-8").splitlines()
        (line,) = (line for line in lines if line.startswith((f"{library}>", f"{library}<", f"{library}~")))
        assert "<" in line, f"requirements/{name}.in: {line}"
