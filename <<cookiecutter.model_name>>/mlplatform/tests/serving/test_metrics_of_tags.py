"""What is sent of the predictions of a model of tags: how often each is said, and their drift."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mlplatform.contract.targets import Tags
from mlplatform.serving.model.signature import Tensor
from mlplatform.serving.observability.metrics import ServingMetrics
from mlplatform.serving.observability.request_record import RequestRecord
from mlplatform.telemetry.dogstatsd import Client
from mlplatform.telemetry.metrics import Metrics
from mlplatform.tests.telemetry.sink import Sink, until

TRAITS = Tags("traits", ("even", "prime", "loop"), (0.5, 0.5, 0.9))


def model(said: Any) -> Any:
    """As much of a served model as is asked."""
    properties = {"baseline": {"inputs": {}, **TRAITS.baseline(said)}}
    return SimpleNamespace(
        target=TRAITS,
        signature=SimpleNamespace(inputs=(), outputs=(Tensor("traits", (3,), "float32"),)),
        manifest=SimpleNamespace(id="v1", created_at="2026-11-23T12:00:00+00:00", properties=properties),
        batcher=SimpleNamespace(watch=None, busy_for=float),
    )


def test_each_tag_is_counted_by_its_threshold_and_watched_for_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    said = np.array([[0.9, 0.6, 0.6]] * 400 + [[0.9, 0.1, 0.95]] * 200 + [[0, 0, 0]] * 100, np.float32)
    served = model(said)
    with Sink().open() as sink:
        monkeypatch.setenv("DD_DOGSTATSD_URL", sink.url)
        metrics = ServingMetrics(Metrics(Client("under-test", "live")), lambda: served)
        record = RequestRecord("v1", {}, "r", 0.0)
        record.model, record.outputs = served, (said,)
        metrics(record)
        metrics.report()
        until(lambda: len(sink.named("ml.predictions")) == 3)
        lines = sink.named("ml.predictions")
        assert {line.tags["class"]: line.values for line in lines} == {"even": (600,), "prime": (400,), "loop": (200,)}
        assert {line.tags["signal"] for line in until(lambda: sink.named("ml.drift.psi"))} == {"tags", "probability"}
        assert not sink.named("ml.confidence")
