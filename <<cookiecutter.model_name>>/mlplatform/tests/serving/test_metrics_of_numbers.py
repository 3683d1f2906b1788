"""What is sent of the predictions of a model of numbers: the values and their drift, and no classes."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mlplatform.contract.targets import Number
from mlplatform.serving.model.signature import Tensor
from mlplatform.serving.observability.metrics import ServingMetrics
from mlplatform.serving.observability.request_record import RequestRecord
from mlplatform.telemetry.dogstatsd import Client
from mlplatform.telemetry.metrics import Metrics
from mlplatform.tests.telemetry.sink import Sink, until

PRICE = Number("price", "EUR")


def model(said: Any) -> Any:
    """As much of a served model as is asked."""
    properties = {"baseline": {"inputs": {}, **PRICE.baseline(said)}}
    return SimpleNamespace(
        target=PRICE,
        signature=SimpleNamespace(inputs=(), outputs=(Tensor("price", (), "float32"),)),
        manifest=SimpleNamespace(id="v1", created_at="2026-11-23T12:00:00+00:00", properties=properties),
        batcher=SimpleNamespace(watch=None, busy_for=float),
    )


def test_the_values_are_a_distribution_and_watched_for_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    said = np.random.default_rng(0).normal(100, 20, 1000).astype(np.float32)
    served = model(said)
    with Sink().open() as sink:
        monkeypatch.setenv("DD_DOGSTATSD_URL", sink.url)
        metrics = ServingMetrics(Metrics(Client("under-test", "live")), lambda: served)
        record = RequestRecord("v1", {}, "r", 0.0)
        record.model, record.outputs = served, (said,)
        metrics(record)
        metrics.report()
        lines = until(lambda: sink.named("ml.prediction.values"))
        assert sum(len(line.values) for line in lines) >= 500
        assert 60 < np.mean([value for line in lines for value in line.values]) < 140
        assert {line.tags["signal"] for line in sink.named("ml.drift.psi")} == {"values"}
        assert not sink.named("ml.predictions")
