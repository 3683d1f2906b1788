"""A real service under traffic, and what reaches Datadog's agent: metrics, traces and log lines."""

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mlplatform.telemetry.registry import METRICS
from mlplatform.tests.serving.running import PREDICT, Running, serving
from mlplatform.tests.telemetry.sink import Sink, TraceAgent, trace_agent, until

pytestmark = pytest.mark.serial

BODY = json.dumps({"instances": [[[0.9] * 8] * 8] * 4}).encode()
JSON = {"Content-Type": "application/json"}
CALLER = {"x-datadog-trace-id": "1234", "x-datadog-parent-id": "77", "x-datadog-sampling-priority": "1"}
W3C = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"


class Watched:
    """A service of `pictures` that reports to a sink and to the test agent."""

    def __init__(self, server: Running, sink: Sink, agent: TraceAgent) -> None:
        self.server = server
        self.sink = sink
        self.agent = agent

    def predict(self, request_id: str = "", caller: Mapping[str, str] | None = None, body: bytes = BODY) -> int:
        """caller: headers that say what it does with its own trace."""
        named = {"X-Request-ID": request_id} if request_id else {}
        return self.server.ask("POST", PREDICT, body, JSON | named | dict(caller or {})).status

    def spans(self, request_id: str) -> dict[str, dict[str, Any]]:
        """The spans of a traced request, by name."""

        def latest() -> dict[str, dict[str, Any]]:
            spans = self.agent.spans()
            roots = [span for span in spans if span["meta"].get("request_id") == request_id]
            inside = {span["span_id"] for span in roots}
            for _ in range(2):
                inside |= {span["span_id"] for span in spans if span["parent_id"] in inside}
            return {span["name"]: span for span in spans if span["span_id"] in inside} if roots else {}

        return until(latest)

    def log_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.server.log.splitlines() if line.startswith("{")]


@pytest.fixture(scope="module")
def watched(light: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    directory = tmp_path_factory.mktemp("agent")
    with pytest.MonkeyPatch.context() as environment, Sink().open() as sink, trace_agent(directory) as agent:
        for name, value in {"DD_ENV": "test", "DD_SERVICE": "pictures", "DD_VERSION": "v1-abc1234"}.items():
            environment.setenv(name, value)
        environment.setenv("DD_DOGSTATSD_URL", sink.url)
        environment.setenv("DD_TRACE_AGENT_URL", agent.url)
        with serving(light, report_seconds=0.5, trace_rate=0, traces_per_second=100) as server:
            server.wait_for(200)
            yield Watched(server, sink, agent)


@pytest.fixture(scope="module")
def busy(watched: Watched) -> Watched:
    """After 600 rows, and a few requests that fail."""
    for _ in range(150):
        assert watched.predict() == 200
    assert watched.predict(body=b"{") == 400
    watched.server.ask("POST", "/v2/models/pictures/infer", b"{", JSON)
    until(lambda: watched.sink.total("ml.requests") >= 152)
    until(lambda: watched.sink.named("ml.drift.psi"))
    return watched


@pytest.mark.parametrize(
    "name",
    # Nothing is dropped here, and the model is none of numbers.
    sorted(
        name
        for name, metric in METRICS.items()
        if metric.sender == "serving" and name not in ("ml.telemetry.dropped", "ml.prediction.values")
    ),
)
def test_every_metric_arrives_with_its_kind_and_its_tags(busy: Watched, name: str) -> None:
    lines = until(lambda: busy.sink.named(name))
    unified = {"env": "test", "service": "pictures", "version": "v1-abc1234", "role": "live"}
    assert {line.kind for line in lines} == {METRICS[name].kind}
    assert {frozenset(line.tags.keys() - unified.keys()) for line in lines} == {frozenset(METRICS[name].tags)}
    assert all(unified.items() <= line.tags.items() for line in lines)


def test_nothing_arrives_that_is_not_in_the_registry(busy: Watched) -> None:
    assert {line.name for line in busy.sink.lines} <= METRICS.keys()


def test_requests_are_counted_by_what_became_of_them(busy: Watched) -> None:
    total = busy.sink.total
    assert total("ml.requests", status="200", outcome="ok", protocol="v1") >= 150
    assert total("ml.requests", status="400", outcome="refused", protocol="v1") == 1
    assert total("ml.requests", status="400", outcome="refused", protocol="v2") == 1


def test_predictions_are_counted_by_row(busy: Watched) -> None:
    assert until(lambda: busy.sink.total("ml.predictions") >= 600)
    assert {line.tags["class"] for line in busy.sink.named("ml.predictions")} <= set("0123456789")


def test_inputs_unlike_those_of_training_show_as_drift(busy: Watched) -> None:
    def of_inputs() -> list[float]:
        busy.predict()
        lines = [line for line in busy.sink.named("ml.drift.psi") if line.tags["signal"] == "input.image"]
        return [value for line in lines for value in line.values]

    # All values are 0.9, where half of those of training were at most 0.5.
    assert until(of_inputs)[-1] > 1
    signals = {line.tags["signal"] for line in busy.sink.named("ml.drift.psi")}
    assert signals == {"input.image", "classes", "confidence"}


def test_a_request_that_its_caller_traces_has_nested_spans(watched: Watched) -> None:
    watched.predict("traced", CALLER)
    spans = watched.spans("traced")
    assert spans.keys() == {"ml.request", "ml.parse", "ml.queue", "ml.batch", "ml.model", "ml.answer"}
    parents = {name: spans[name]["parent_id"] for name in spans}
    root = spans["ml.request"]["span_id"]
    assert parents == {
        "ml.request": 77,
        "ml.parse": root,
        "ml.queue": root,
        "ml.batch": root,
        "ml.model": spans["ml.batch"]["span_id"],
        "ml.answer": root,
    }
    assert {span["trace_id"] for span in spans.values()} == {1234}
    ends = {name: span["start"] + span["duration"] for name, span in spans.items()}
    # A microsecond for what seconds as a float leave out.
    assert all(spans["ml.request"]["start"] - 1000 <= span["start"] for span in spans.values())
    assert all(end <= ends["ml.request"] + 1000 for end in ends.values())


def test_a_trace_says_what_was_asked_and_which_model_answered(watched: Watched) -> None:
    watched.predict("described", {"traceparent": W3C + "1"})
    request = watched.spans("described")["ml.request"]
    assert (request["service"], request["resource"]) == ("pictures", f"POST {PREDICT}")
    expected = {"http.status_code": "200", "model_version": "aaaaaaaaaaaa", "env": "test", "version": "v1-abc1234"}
    assert expected.items() <= request["meta"].items()
    assert request["metrics"]["rows"] == 4


def test_requests_that_share_a_model_call_are_linked(watched: Watched) -> None:
    def ask(number: int) -> None:
        watched.predict(f"together-{number}", CALLER)

    def linked() -> bool:
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        watched.spans("together-15")
        spans = watched.agent.spans()
        roots = {f"{s['span_id']:016x}" for s in spans if s["meta"].get("request_id", "").startswith("together-")}
        links = [
            link for s in spans if s["name"] == "ml.batch" for link in json.loads(s["meta"].get("_dd.span_links", "[]"))
        ]
        return bool(links) and {link["span_id"] for link in links} <= roots

    assert until(linked)


def test_what_its_caller_does_not_trace_and_health_checks_have_no_spans(watched: Watched) -> None:
    watched.predict("untraced", {"traceparent": W3C + "0"})
    watched.server.get("/v2/health/ready", **CALLER)
    watched.predict("after", CALLER)
    watched.spans("after")
    spans = watched.agent.spans()
    assert {span["name"] for span in spans if span["parent_id"] == 0 or span["parent_id"] == 77} == {"ml.request"}
    assert "untraced" not in {span["meta"].get("request_id") for span in spans}
    assert not any("health" in span["resource"] for span in spans)


def test_a_failed_request_leaves_a_log_line_that_names_request_model_and_trace(watched: Watched) -> None:
    body = b'{"instances": "secret"}'
    watched.predict("refused", CALLER, body)
    (line,) = until(lambda: [line for line in watched.log_lines() if line.get("request_id") == "refused"])
    trace = watched.spans("refused")["ml.request"]
    assert (int(line["dd.trace_id"], 16), int(line["dd.span_id"])) == (trace["trace_id"], trace["span_id"])
    assert (line["model_version"], line["http.status_code"]) == ("aaaaaaaaaaaa", 400)
    assert (line["dd.env"], line["dd.service"], line["dd.version"]) == ("test", "pictures", "v1-abc1234")


def test_what_is_wrong_with_a_body_is_told_to_its_sender_and_not_to_the_log(watched: Watched) -> None:
    answer = watched.server.ask("POST", PREDICT, b'{"instances": "secret"}', JSON | {"X-Request-ID": "quoted"})
    assert "secret" in answer.error
    until(lambda: [line for line in watched.log_lines() if line.get("request_id") == "quoted"])
    assert "secret" not in watched.server.log


def test_gunicorns_lines_are_json_as_well_and_good_requests_leave_none(watched: Watched) -> None:
    loggers = [line["logger.name"] for line in watched.log_lines()]
    assert loggers.count("gunicorn.error") >= 4
    assert "gunicorn.access" not in loggers
    assert not [line for line in watched.log_lines() if line.get("http.status_code") == 200]
    assert "Traceback" not in watched.server.log


def test_an_agent_that_is_absent_or_does_not_read_changes_no_answer(light: Path, tmp_path: Path) -> None:
    path = tmp_path / "dsd.socket"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DD_DOGSTATSD_URL", f"unix://{path}")
        environment.setenv("DD_TRACE_AGENT_URL", "http://127.0.0.1:9")
        with serving(light, report_seconds=0.05, trace_rate=1) as server:
            server.wait_for(200)
            watched = Watched(server, Sink(), TraceAgent(""))
            assert {watched.predict() for _ in range(20)} == {200}
            sink = Sink(path)
            with sink.open(reading=False):
                until(lambda: "does not take metrics" in server.log)
                assert {watched.predict() for _ in range(100)} == {200}
                sink.read_on()
                # Back again, it is sent what has been counted since, and how much was lost meanwhile.
                until(lambda: sink.total("ml.telemetry.dropped"))
                assert {watched.predict() for _ in range(20)} == {200}
                until(lambda: sink.total("ml.requests") >= 20)
            assert {watched.predict() for _ in range(20)} == {200}
            server.process.terminate()
            assert server.process.wait(20) == 0
