"""The serving image under traffic: what Datadog's agent receives from it."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine import Engine
from rendered import get, post

from containers.conftest import NAME
from containers.datadog import Datadog
from containers.server import running

pytestmark = pytest.mark.docker

KINDS = {"count": "c", "gauge": "g", "distribution": "d"}
ALWAYS = {"env", "service", "version", "role"}


@pytest.fixture(scope="module")
def watched(
    engine: Engine, serving_image: str, datadog: Datadog, manifest: dict[str, Any]
) -> Iterator[tuple[Datadog, str]]:
    """The agent and the base URL of a server that has answered good requests and a bad one, and has reported them."""
    datadog.forget()
    settings = {"DD_ENV": "test", "DD_SERVICE": NAME, "DD_VERSION": "v1", "SERVING_REPORT_SECONDS": "0.5"}
    options = [f"--env={name}={value}" for name, value in {**settings, "SERVING_TRACE_RATE": "1"}.items()]
    samples = [sample["instance"] for sample in manifest["properties"]["samples"]]
    with running(engine, serving_image, *datadog.options, *options) as (_, url):
        # Drift is told of 500 rows and more.
        for _ in range(20):
            status, _ = post(f"{url}/v1/models/{NAME}:predict", {"instances": (samples * 60)[:60]})
            assert status == 200
        assert post(f"{url}/v1/models/{NAME}:predict", {"instances": "none"})[0] == 400
        until(lambda: any(name == "ml.drift.psi" for name, *_ in lines(datadog)))
        until(lambda: any(span["name"] == "ml.model" for trace in datadog.traces() for span in trace))
        yield datadog, url


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def lines(datadog: Datadog) -> list[tuple[str, str, set[str]]]:
    """Name, kind and names of tags of every metric received."""
    found = []
    for line in filter(None, "\n".join(datadog.packets()).splitlines()):
        values, kind, *rest = line.split("|")
        tags = next((part[1:] for part in rest if part.startswith("#")), "")
        found.append((values.partition(":")[0], kind, {tag.partition(":")[0] for tag in tags.split(",")}))
    return found


def registry(repository: Path) -> dict[str, tuple[str, set[str]]]:
    """Kind and tags of each metric of a server that nothing fails, from the table made of the registry."""
    table = (repository / "deploy" / "datadog" / "METRICS.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(ml\.[a-z.]+)` \| (\w+) \| [^|]* \| ([^|]*) \|", table, re.MULTILINE)
    return {
        name: (KINDS[kind], set(re.findall(r"\w+", tags)))
        for name, kind, tags in rows
        if not name.startswith(("ml.training.", "ml.ghost.", "ml.telemetry.", "ml.events."))
    }


def test_every_metric_of_the_registry_arrives_with_its_kind_and_its_tags(
    watched: tuple[Datadog, str], repository: Path
) -> None:
    wanted = registry(repository)
    assert len(wanted) > 10
    received = lines(watched[0])
    for name, (kind, tags) in wanted.items():
        found = [(received_kind, names) for received_name, received_kind, names in received if received_name == name]
        assert found, f"{name} did not arrive"
        assert {received_kind for received_kind, _ in found} == {kind}, name
        assert all(names >= tags | ALWAYS for _, names in found), (name, found[0])


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
    until(lambda: bool(datadog.traces()))
    assert {span["name"] for trace in datadog.traces() for span in trace if not span["parent_id"]} == {"ml.request"}
