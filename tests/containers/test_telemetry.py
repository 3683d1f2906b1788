"""The images under traffic: what Datadog's agent receives from them, and what becomes of requests without one."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from engine import Engine
from rendered import get, post

from containers.batch import Job
from containers.conftest import NAME
from containers.datadog import Datadog
from containers.server import running
from containers.waiting import wait_for

pytestmark = pytest.mark.docker

PREDICT = f"/v1/models/{NAME}:predict"
KINDS = {"count": "c", "gauge": "g", "distribution": "d"}
ALWAYS = {"env", "service", "version", "role"}
SETTINGS = {"DD_ENV": "test", "DD_SERVICE": NAME, "DD_VERSION": "v1", "SERVING_TRACE_RATE": "1"}


@pytest.fixture(scope="module")
def watched(
    engine: Engine, serving_image: str, litert_image: str, datadog: Datadog, manifest: dict[str, Any]
) -> Iterator[tuple[Datadog, str]]:
    """The agent and the base URL of a server with a ghost, which has answered good requests and a bad one."""
    datadog.forget()
    options = [*datadog.options, *variables({**SETTINGS, "SERVING_REPORT_SECONDS": "0.5"})]
    ghost_options = ("--network-alias=ghost", "--env=SERVING_ROLE=ghost")
    ghost = {"SERVING_GHOST_URL": "http://ghost:8080", "SERVING_GHOST_SAMPLE_RATE": "1", "SERVING_EVENTS": "/tmp"}
    samples = [sample["instance"] for sample in manifest["properties"]["samples"]]
    with running(engine, litert_image, *options, *ghost_options), running(
        engine, serving_image, *options, *variables(ghost)
    ) as (_, url):  # fmt: skip
        # Drift is told of 500 rows and more.
        for _ in range(20):
            status, _ = post(f"{url}{PREDICT}", {"instances": (samples * 60)[:60]})
            assert status == 200
        assert post(f"{url}{PREDICT}", {"instances": "none"})[0] == 400
        names = {"ml.drift.psi", "ml.ghost.copy.seconds", "ml.ghost.comparisons"}
        wait_for(lambda: names <= {found for found, *_ in lines(datadog.packets())})
        wait_for(lambda: any(span["name"] == "ml.model" for trace in datadog.traces() for span in trace))
        yield datadog, url


@dataclass
class Outages:
    """What became of a server's requests while its agent was well, slow, gone, back, frozen and gone for good.

    answers: one of each kind, and how many there were. packets: what the agent received. exit_code: the server's.
    """

    answers: dict[str, int] = field(default_factory=dict)
    packets: list[str] = field(default_factory=list)
    log: str = ""
    exit_code: str = ""


@contextmanager
def agent(engine: Engine, image: str, network: str, *options: str) -> Iterator[tuple[str, Datadog]]:
    """An agent called `agent` on the network; the id of its container. options: of ddapm-test-agent."""
    ports = [f"--publish=127.0.0.1::{port}" for port in (8126, 8127)]
    with ExitStack() as stack:

        def start(*arguments: str) -> str:
            container = engine.output("run", "--detach", *arguments)
            stack.callback(engine.run, "rm", "--force", container, check=False)
            return container

        name = f"--network={network}", "--network-alias=agent"
        traces = start(*name, *ports, image, "ddapm-test-agent", "--host", "0.0.0.0", "--port", "8126", *options)
        start(f"--network=container:{traces}", image, "python", "statsd.py")
        published = [int(engine.output("port", traces, str(port)).rpartition(":")[2]) for port in (8126, 8127)]
        found = Datadog(published[0], published[1], network)
        wait_for(lambda: found.answers)
        yield traces, found


@pytest.fixture(scope="module")
def outages(
    engine: Engine, litert_image: str, services_image: str, datadog: Datadog, manifest: dict[str, Any]
) -> Outages:
    """A server that is asked all the time."""
    found = Outages()
    body = {"instances": [manifest["properties"]["samples"][0]["instance"]]}
    settings = {**SETTINGS, "SERVING_REPORT_SECONDS": "0.2", "DD_AGENT_HOST": "agent", "SERVING_DRAIN_SECONDS": "0"}
    over = threading.Event()

    def ask(url: str) -> None:
        while not over.is_set():
            answer = json.dumps(post(f"{url}{PREDICT}", body))
            found.answers[answer] = found.answers.get(answer, 0) + 1

    def asked(more: int) -> None:
        before = sum(found.answers.values())
        wait_for(lambda: sum(found.answers.values()) >= before + more)

    network = f"--network={datadog.network}"
    with running(engine, litert_image, network, *variables(settings)) as (server, url):
        client = threading.Thread(target=ask, args=[url])
        client.start()
        try:
            with agent(engine, services_image, datadog.network, "--trace-request-delay", "2") as (_, slow):
                wait_for(lambda: bool(slow.traces()) and bool(slow.packets()))
                asked(100)
            wait_for(lambda: "does not take metrics" in engine.output("logs", server))
            asked(100)
            with agent(engine, services_image, datadog.network) as (container, back):
                wait_for(lambda: any(name == "ml.telemetry.dropped" for name, *_ in lines(back.packets())))
                wait_for(lambda: bool(back.traces()))
                found.packets = back.packets()
                engine.run("kill", "--signal=STOP", container)
                asked(500)
            asked(100)
        finally:
            over.set()
            client.join()
        engine.run("stop", "--time=30", server)
        found.exit_code = engine.output("inspect", "--format={{.State.ExitCode}}", server)
        found.log = engine.output("logs", server)
    return found


def variables(environment: dict[str, str]) -> list[str]:
    """Options of `docker run`."""
    return [f"--env={name}={value}" for name, value in environment.items()]


def lines(packets: list[str]) -> list[tuple[str, str, set[str]]]:
    """Name, kind and names of tags of every metric received."""
    found = []
    for line in filter(None, "\n".join(packets).splitlines()):
        if line.startswith("_e{"):
            continue
        values, kind, *rest = line.split("|")
        tags = next((part[1:] for part in rest if part.startswith("#")), "")
        found.append((values.partition(":")[0], kind, {tag.partition(":")[0] for tag in tags.split(",")}))
    return found


def registry(repository: Path) -> dict[str, tuple[str, set[str]]]:
    """Kind and tags of each metric of a model with one target, from the table made of the registry."""
    table = (repository / "deploy" / "datadog" / "METRICS.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| (\w+) \| [^|]* \| ([^|]*) \|", table, re.MULTILINE)
    assert len(rows) == table.count("\n| `")
    return {
        name: (KINDS[kind], set(re.findall(r"\w+", tags.replace("target of several", "")))) for name, kind, tags in rows
    }


def test_every_metric_of_the_registry_arrives_with_its_kind_and_its_tags(
    watched: tuple[Datadog, str], jobs: list[Job], outages: Outages, repository: Path
) -> None:
    datadog, _ = watched
    # Serving and ghost from the servers, training from the jobs, what was dropped from the server without an agent.
    received = lines([*datadog.forgotten, *datadog.packets(), *outages.packets])
    metrics = registry(repository)
    # The model here has labels; the platform's tests/serving/test_metrics_of_numbers.py receives this one.
    del metrics["ml.prediction.values"]
    for name, (kind, tags) in metrics.items():
        found = [(received_kind, names) for received_name, received_kind, names in received if received_name == name]
        assert found, f"{name} did not arrive"
        assert {received_kind for received_kind, _ in found} == {kind}, name
        assert all(names == tags | ALWAYS for _, names in found), (name, found[0])


def test_whatever_happens_to_the_agent_callers_get_the_same_answers(outages: Outages) -> None:
    (answer,) = outages.answers
    assert json.loads(answer)[0] == 200


def test_a_server_whose_agent_was_gone_says_when_it_is_back_and_ends_well_without_it(outages: Outages) -> None:
    assert outages.exit_code == "0", outages.log
    assert "takes metrics again" in outages.log


def test_a_request_is_a_trace_of_its_parts_although_the_model_runs_elsewhere(watched: tuple[Datadog, str]) -> None:
    traces = [{span["name"]: span for span in trace} for trace in watched[0].traces()]
    spans = next(trace for trace in traces if "ml.model" in trace)
    assert spans.keys() == {"ml.request", "ml.parse", "ml.queue", "ml.batch", "ml.model", "ml.answer"}
    request = spans["ml.request"]
    assert {spans[name]["parent_id"] for name in ("ml.parse", "ml.queue", "ml.batch", "ml.answer")} == {
        request["span_id"]
    }
    assert spans["ml.model"]["parent_id"] == spans["ml.batch"]["span_id"]
    assert (request["service"], request["meta"]["env"], request["meta"]["version"]) == (NAME, "test", "v1")


def test_health_checks_make_no_trace(watched: tuple[Datadog, str]) -> None:
    datadog, url = watched
    datadog.forget()
    for _ in range(20):
        assert get(f"{url}/v2/health/ready")[0] == 200
    # What comes after them has arrived, so they would have.
    assert post(f"{url}/v1/models/{NAME}:predict", {"instances": "none"})[0] == 400
    wait_for(lambda: bool(datadog.traces()))
    assert {span["name"] for trace in datadog.traces() for span in trace if not span["parent_id"]} == {"ml.request"}
