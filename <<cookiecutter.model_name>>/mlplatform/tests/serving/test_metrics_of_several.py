"""What is sent of the predictions of a model of several targets: those of each, tagged with its name."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mlplatform.contract.drift import histogram
from mlplatform.contract.targets import Classes, Number
from mlplatform.contract.targets.several import Several
from mlplatform.serving.model.signature import Tensor
from mlplatform.serving.observability.metrics import ServingMetrics
from mlplatform.serving.observability.predictions import predicted
from mlplatform.serving.observability.request_record import RequestRecord
from mlplatform.telemetry.dogstatsd import Client
from mlplatform.telemetry.metrics import Metrics
from mlplatform.tests.telemetry.sink import Sink, until

TARGET = Several([Classes("kind", "ab"), Number("size")])
KINDS = np.array([[0.9, 0.1]] * 600 + [[0.2, 0.8]] * 200, np.float32)
SIZES = np.linspace(0, 40, 800, dtype=np.float32)
WIDTHS = np.linspace(0, 1, 800, dtype=np.float32)


@pytest.fixture
def served() -> Any:
    """As much of a served model as is asked. Its outputs are in another order than its targets."""
    together = TARGET.joined({"kind": KINDS, "size": SIZES})
    baseline = {"inputs": {"width": histogram(WIDTHS)}, **TARGET.baseline(together)}
    return SimpleNamespace(
        target=TARGET,
        signature=SimpleNamespace(
            inputs=(Tensor("width", (), "float32"),),
            outputs=(Tensor("size", (), "float32"), Tensor("kind", (2,), "float32")),
        ),
        manifest=SimpleNamespace(id="v1", created_at="2026-11-23T12:00:00+00:00", properties={"baseline": baseline}),
        batcher=SimpleNamespace(watch=None, busy_for=float),
    )


def test_each_target_has_its_own_tagged_with_its_name(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sink().open() as sink:
        monkeypatch.setenv("DD_DOGSTATSD_URL", sink.url)
        metrics = ServingMetrics(Metrics(Client("under-test", "live")), lambda: served)
        record = RequestRecord("v1", {}, "r", 0.0)
        record.model, record.outputs = served, (SIZES, KINDS)
        metrics(record)
        metrics.report()
        until(lambda: len(sink.named("ml.predictions")) == 2)
        counted = {(line.tags["target"], line.tags["class"]): line.values for line in sink.named("ml.predictions")}
        assert counted == {("kind", "a"): (600,), ("kind", "b"): (200,)}
        until(lambda: sink.named("ml.drift.psi"))
        drift = {(line.tags["target"], line.tags["signal"]) for line in sink.named("ml.drift.psi")}
        assert drift == {("kind", "classes"), ("kind", "confidence"), ("size", "values")}
        assert {line.tags["target"] for line in until(lambda: sink.named("ml.confidence"))} == {"kind"}
        assert {line.tags["target"] for line in until(lambda: sink.named("ml.prediction.values"))} == {"size"}


def test_events_note_every_target_of_a_row(served: Any) -> None:
    said = predicted(served, [(SIZES[:2], KINDS[:2]), (), (SIZES[-1:], KINDS[-1:])])
    assert said.rows == [2, 0, 1]
    assert said.labels is not None
    assert TARGET.label_values(said.labels) == [{"kind": "a"}, {"kind": "a"}, {"kind": "b"}]
    assert said.scores is not None
    assert said.scores.tolist() == pytest.approx([0.9, 0.9, 0.8])
