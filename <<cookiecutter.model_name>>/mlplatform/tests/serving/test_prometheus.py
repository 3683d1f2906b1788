"""/metrics: the figures of a whole server, whichever of its workers is asked."""

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from mlplatform.serving.observability.shared_totals import SharedTotals
from mlplatform.telemetry.metrics import Metrics
from mlplatform.telemetry.openmetrics import Totals
from mlplatform.telemetry.registry import MODEL_BUSY, PREDICTIONS
from mlplatform.tests.serving.running import Client, Running, serving
from mlplatform.tests.telemetry.sink import until

BODY = json.dumps({"instances": [[[0.9] * 8] * 8] * 4}).encode()


def total(server: Running, name: str, **labels: str) -> float:
    """Sum over the samples with these labels, as any worker has it."""
    reply = server.get("/metrics")
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    families = text_string_to_metric_families(reply.body.decode())
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


@pytest.fixture(scope="module")
def server(light: Path) -> Iterator[Running]:
    with serving(light, workers=2, prometheus="true", report_seconds=0.2) as running:
        running.wait_for(200)
        yield running


def test_every_worker_answers_for_all_and_one_that_dies_takes_no_count_with_it(server: Running) -> None:
    clients = [Client(server.port, BODY) for _ in range(8)]
    # Both have answered requests when both have made predictions.
    until(lambda: len({pid for pid in server.workers() if total(server, "ml_model_busy", pid=str(pid))}) == 2, 60)
    for client in clients:
        client.stop.set()
    for client in clients:
        client.join()
    asked = sum(len(client.statuses) for client in clients)
    until(lambda: total(server, "ml_requests_total") == asked, 60)
    assert {total(server, "ml_requests_total", status="200", outcome="ok") for _ in range(20)} == {asked}
    assert total(server, "ml_predictions_total") == 4 * asked
    # Of many calls some are measured, and stand for the others.
    assert total(server, "ml_batch_rows_sum") == pytest.approx(4 * asked, rel=0.5)

    died = server.workers()[0]
    os.kill(died, signal.SIGKILL)
    until(lambda: died not in server.workers() and len(server.workers()) == 2, 60)
    until(lambda: not total(server, "ml_process_memory", pid=str(died)), 60)
    assert total(server, "ml_requests_total") == asked


def test_it_is_in_the_table_of_routes(server: Running) -> None:
    operation = server.get("/openapi.json").body["paths"]["/metrics"]["get"]
    assert list(operation["responses"]["200"]["content"]) == ["application/openmetrics-text"]


def test_without_the_setting_there_is_no_such_page(light: Path) -> None:
    with serving(light) as plain:
        plain.wait_for(200)
        assert plain.get("/metrics").status == 404
        assert "/metrics" not in plain.get("/openapi.json").body["paths"]


def test_a_server_that_ends_leaves_no_files(light: Path) -> None:
    with serving(light, prometheus="true") as stopping:
        stopping.wait_for(200)
        pattern = f"metrics-{stopping.process.pid}-*"
        places = (Path("/dev/shm"), Path(tempfile.gettempdir()))
        assert [path for place in places for path in place.glob(pattern)]
        stopping.process.terminate()
        assert stopping.process.wait(30) == 0
    assert not [path for place in places for path in place.glob(pattern)]


def test_counts_of_workers_that_ended_stay_and_their_gauges_go() -> None:
    shared = SharedTotals()
    try:
        for pid in (1, 2, 3):
            totals = Totals()
            metrics = Metrics(totals)
            metrics.count(PREDICTIONS, pid, "class:a")
            metrics.gauge(MODEL_BUSY, 0.5)
            metrics.send()
            shared.write(pid, totals)
        for pid in (1, 2):
            shared.ended(pid)
        counted = shared.totals()
    finally:
        shared.close()
    assert counted.counts == {("ml.predictions", ("class:a",)): 6}
    assert counted.gauges == {("ml.model.busy", ("pid:3",)): 0.5}
