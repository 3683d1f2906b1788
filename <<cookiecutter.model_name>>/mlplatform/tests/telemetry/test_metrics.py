"""From values in a process to packets at the agent."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlplatform.telemetry.agent import takes_metrics, takes_traces
from mlplatform.telemetry.dogstatsd import Client
from mlplatform.telemetry.metrics import Metrics
from mlplatform.telemetry.registry import MODEL_BUSY, PREDICTIONS, QUEUE_ROWS, REQUEST_SECONDS
from mlplatform.tests.serving.running import free_port
from mlplatform.tests.telemetry.sink import Line, Sink, until

GONE_AND_BACK = [
    "Datadog's agent does not take metrics; they are dropped until it does",
    "Datadog's agent takes metrics again",
]


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sink]:
    for name in ("DD_ENV", "DD_SERVICE", "DD_VERSION", "DD_AGENT_HOST", "DD_TAGS"):
        monkeypatch.delenv(name, raising=False)
    with Sink().open() as opened:
        monkeypatch.setenv("DD_DOGSTATSD_URL", opened.url)
        yield opened


def sent(sink: Sink, metrics: Metrics, lines: int) -> list[Line]:
    metrics.send()
    until(lambda: len(sink.lines) >= lines)
    return sink.lines


def test_counts_add_up_and_gauges_keep_their_last_value(sink: Sink) -> None:
    metrics = Metrics(Client("digits", "live"))
    for number in (1, 2, 3):
        metrics.count(PREDICTIONS, number, "class:a")
        metrics.gauge(QUEUE_ROWS, number)
    tags = {"role": "live", "service": "digits"}
    assert sent(sink, metrics, 2) == [
        Line("ml.predictions", "count", (6.0,), 1, {"class": "a", **tags}),
        Line("ml.queue.rows", "gauge", (3.0,), 1, tags),
    ]


def test_the_unified_service_tags_come_from_the_environment(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DD_ENV": "production", "DD_SERVICE": "numbers", "DD_VERSION": "v3-abc1234"}.items():
        monkeypatch.setenv(name, value)
    metrics = Metrics(Client("digits", "ghost"))
    metrics.gauge(MODEL_BUSY, 0.5)
    (line,) = sent(sink, metrics, 1)
    assert line.tags == {"env": "production", "service": "numbers", "version": "v3-abc1234", "role": "ghost"}


def test_values_of_a_distribution_share_lines_and_say_what_they_stand_for(sink: Sink) -> None:
    metrics = Metrics(Client("digits", "live"))
    metrics.distribution(REQUEST_SECONDS, [0.001 * number for number in range(500)], "outcome:ok", stride=64)
    metrics.send()
    until(lambda: sum(len(line.values) for line in sink.lines) == 500)
    lines = sink.lines
    assert len(lines) < 10
    assert {1 / line.rate for line in lines} == {64}
    assert max(len(packet) for packet in sink.packets) <= 1432


def test_what_has_been_sent_is_not_sent_again(sink: Sink) -> None:
    metrics = Metrics(Client("digits", "live"))
    metrics.count(PREDICTIONS, 1, "class:a")
    metrics.send()
    metrics.count(PREDICTIONS, 2, "class:a")
    sent(sink, metrics, 2)
    assert sink.total("ml.predictions") == 3


def test_a_metric_of_another_kind_or_with_other_tags_is_refused(sink: Sink) -> None:
    metrics = Metrics(Client("digits", "live"))
    with pytest.raises(ValueError, match=r"ml\.queue\.rows is a gauge, not a count"):
        metrics.count(QUEUE_ROWS, 1)
    with pytest.raises(ValueError, match=r"ml\.predictions has the tags class; got label:a"):
        metrics.count(PREDICTIONS, 1, "label:a")


def test_what_an_agent_does_not_read_is_dropped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mlplatform.telemetry")
    with Sink(tmp_path / "dsd.socket").open(reading=False) as sink:
        monkeypatch.setenv("DD_DOGSTATSD_URL", sink.url)
        metrics = Metrics(Client("digits", "live"))
        for _ in range(2000):
            metrics.gauge(QUEUE_ROWS, 1)
            metrics.send()
        sink.read_on()
        # Once a packet has been read there is space for more.
        until(lambda: sink.packets)

        def reported() -> float:
            metrics.gauge(QUEUE_ROWS, 1)
            metrics.send()
            return sink.total("ml.telemetry.dropped")

        until(reported)
        assert sink.total("ml.telemetry.dropped") + len(sink.named("ml.queue.rows")) >= 2000
    assert [record.getMessage() for record in caplog.records] == GONE_AND_BACK


def test_a_port_that_nobody_listens_on_is_said_once_and_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mlplatform.telemetry")
    port = free_port()
    monkeypatch.setenv("DD_DOGSTATSD_URL", f"udp://127.0.0.1:{port}")
    metrics = Metrics(Client("digits", "live"))
    for _ in range(20):
        metrics.gauge(QUEUE_ROWS, 1)
        metrics.send()
    with Sink(port=port).open() as sink:
        for _ in range(5):
            metrics.gauge(QUEUE_ROWS, 2)
            metrics.send()
        # The system reports half of them.
        until(lambda: sink.total("ml.telemetry.dropped") >= 9)
    assert [record.getMessage() for record in caplog.records] == GONE_AND_BACK


def test_an_agent_that_comes_back_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "dsd.socket"
    monkeypatch.setenv("DD_DOGSTATSD_URL", f"unix://{path}")
    metrics = Metrics(Client("digits", "live"))
    for _ in range(2):
        metrics.gauge(QUEUE_ROWS, 1)
        metrics.send()
        sink = Sink(path)
        with sink.open():
            metrics.gauge(QUEUE_ROWS, 2)
            metrics.send()
            until(lambda: sink.packets)  # noqa: B023
            assert [line.values for line in sink.named("ml.queue.rows")] == [(2.0,)]


@pytest.mark.parametrize(
    ("environment", "metrics", "traces"),
    [
        ({}, False, False),
        ({"DD_AGENT_HOST": "10.0.0.1"}, True, True),
        ({"DD_AGENT_HOST": "10.0.0.1", "DD_TRACE_ENABLED": "false"}, True, False),
        ({"DD_AGENT_HOST": "10.0.0.1", "DD_DOGSTATSD_DISABLE": "true"}, False, True),
        ({"DD_DOGSTATSD_URL": "unix:///dsd.socket"}, True, False),
        ({"DD_TRACE_AGENT_URL": "unix:///apm.socket"}, False, True),
    ],
)
def test_the_environment_says_whether_there_is_an_agent(
    environment: dict[str, str], metrics: bool, traces: bool
) -> None:
    assert (takes_metrics(environment), takes_traces(environment)) == (metrics, traces)
