"""Dashboard, monitors and SLO: brought to Datadog as often as one likes, and only what it takes."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlplatform.cli import main
from mlplatform.delivery.datadog.resources import FILES, read_resources
from mlplatform.delivery.errors import DeliveryError
from mlplatform.telemetry.registry import DATADOG_METRICS, METRICS
from mlplatform.tests.conftest import ROOT
from mlplatform.tests.delivery.conftest import SETTINGS
from mlplatform.tests.delivery.datadog_api import FakeDatadog

Run = Callable[..., int]


@pytest.fixture
def datadog() -> Iterator[tuple[FakeDatadog, str]]:
    fake = FakeDatadog()
    with fake.serving() as url:
        yield fake, url


@pytest.fixture
def run(datadog: tuple[FakeDatadog, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`delivery datadog ...` in a directory with the files, against the server."""
    shutil.copytree(ROOT / FILES, tmp_path / FILES)
    service = re.search(r'"\[(.*?)\] answered"', (tmp_path / FILES / "slo.json").read_text())
    assert service is not None
    for path in (tmp_path / FILES).rglob("*.json"):
        path.write_text(path.read_text().replace(service[1], "under-test"))
    (tmp_path / "service.toml").write_text(SETTINGS.format(registry="registry"))
    monkeypatch.chdir(tmp_path)
    for name, value in {"DD_API_KEY": "api", "DD_APP_KEY": "app", "DELIVERY_DATADOG_URL": datadog[1]}.items():
        monkeypatch.setenv(name, value)
    return lambda *arguments: main(["datadog", *arguments])


def edit(path: str, **changes: Any) -> None:
    file = FILES / path
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_apply_makes_everything(run: Run, datadog: tuple[FakeDatadog, str]) -> None:
    assert run("apply") == 0
    fake = datadog[0]
    assert len(fake.monitors) == len(list((ROOT / FILES / "monitors").glob("*.json")))
    assert [slo["name"] for slo in fake.slos.values()] == ["[under-test] answered"]
    assert [dashboard["title"] for dashboard in fake.dashboards.values()] == ["under-test: model service"]


def test_the_burn_rate_alert_names_the_slo_that_datadog_made(run: Run, datadog: tuple[FakeDatadog, str]) -> None:
    run("apply")
    (alert,) = [each for each in datadog[0].monitors.values() if each["type"] == "slo alert"]
    assert f'burn_rate("{next(iter(datadog[0].slos))}")' in alert["query"]


def test_a_second_apply_changes_nothing(
    run: Run, datadog: tuple[FakeDatadog, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run("apply")
    before = [write for write in datadog[0].writes if "/metrics/" not in write]
    capsys.readouterr()
    assert run("apply", "--json") == 0
    assert {change["action"] for change in json.loads(capsys.readouterr().out)} == {"none"}
    assert [write for write in datadog[0].writes if "/metrics/" not in write] == before


def test_metrics_get_their_unit_their_meaning_and_percentiles(run: Run, datadog: tuple[FakeDatadog, str]) -> None:
    datadog[0].known.remove("ml.ghost.copies")
    assert run("apply") == 0
    assert datadog[0].metadata["ml.request.seconds"]["unit"] == "second"
    assert datadog[0].metadata.keys() == METRICS.keys() - {"ml.ghost.copies"}
    assert datadog[0].percentiles == {metric.name for metric in METRICS.values() if metric.percentiles}


def test_diff_shows_what_somebody_changed_by_hand_and_apply_takes_it_back(
    run: Run, datadog: tuple[FakeDatadog, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run("apply")
    monitor = next(each for each in datadog[0].monitors.values() if "resource:latency" in each["tags"])
    monitor["message"] = "never mind"
    writes = len(datadog[0].writes)
    capsys.readouterr()
    assert run("diff") == 0
    assert 'update monitor latency\n    message: "never mind" -> ' in capsys.readouterr().out
    assert len(datadog[0].writes) == writes
    run("apply")
    assert "p99 is" in monitor["message"] or "p99 is" in datadog[0].monitors[str(monitor["id"])]["message"]


def test_a_monitor_whose_file_is_gone_is_removed(run: Run, datadog: tuple[FakeDatadog, str]) -> None:
    run("apply")
    (FILES / "monitors/drift.json").unlink()
    assert run("apply") == 0
    assert not [each for each in datadog[0].monitors.values() if "resource:drift" in each["tags"]]


def test_what_others_have_is_left_alone(run: Run, datadog: tuple[FakeDatadog, str]) -> None:
    other = {
        "id": 7,
        "type": "query alert",
        "name": "x",
        "tags": ["service:other", "managed-by:delivery"],
        "query": "q",
    }
    datadog[0].monitors["7"] = other
    run("apply")
    assert run("delete") == 0
    assert datadog[0].monitors == {"7": other}
    assert (datadog[0].slos, datadog[0].dashboards) == ({}, {})


def test_a_dry_run_writes_nothing(run: Run, datadog: tuple[FakeDatadog, str]) -> None:
    assert run("apply", "--dry-run") == 0
    assert datadog[0].writes == []


@pytest.mark.parametrize(
    ("file", "changes", "reason"),
    [
        ("monitors/latency.json", {"query": "avg(last_5m):avg:ml.no.such{*} > 0.5"}, "no metric ml.no.such"),
        ("monitors/latency.json", {"query": "avg(last_5m:avg:ml.model.busy{*} > 0.5"}, "query"),
        ("monitors/latency.json", {"query": "percentile(last_5m):p99:ml.model.busy{*} > 0.5"}, "has no percentiles"),
        ("monitors/latency.json", {"query": "avg(last_5m):avg:ml.model.busy{*} > 0.7"}, "threshold does not match"),
        ("monitors/drift.json", {"query": "avg(last_1h):max:ml.drift.psi{pod:x} > 0.2"}, "has no tag pod"),
    ],
)
def test_what_datadog_refuses_is_told_by_file_with_its_reason(
    run: Run, capsys: pytest.CaptureFixture[str], file: str, changes: dict[str, Any], reason: str
) -> None:
    edit(file, **changes)
    assert run("apply") == 1
    told = capsys.readouterr().err
    assert f"Datadog refuses monitor {Path(file).stem}: 400" in told
    assert reason in told


@pytest.mark.parametrize(
    ("file", "changes", "place"),
    [
        ("monitors/latency.json", {"type": "nope"}, "latency.json"),
        ("monitors/latency.json", {"colour": "red"}, "latency.json.colour"),
        ("dashboard.json", {"widgets": [{"definition": {"type": "pie"}}]}, "dashboard.json.widgets[0].definition"),
    ],
)
def test_what_the_client_does_not_know_is_refused_before_anything_is_sent(
    run: Run, datadog: tuple[FakeDatadog, str], file: str, changes: dict[str, Any], place: str
) -> None:
    edit(file, **changes)
    with pytest.raises(DeliveryError, match=re.escape(f"does not know {place}")):
        read_resources()
    assert run("apply") == 1
    assert datadog[0].writes == []


def test_wrong_or_missing_keys_are_told(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DD_API_KEY", "other")
    assert run("diff") == 1
    assert "403 Forbidden" in capsys.readouterr().err
    monkeypatch.delenv("DD_APP_KEY")
    assert run("diff") == 2
    assert "DD_APP_KEY must be in the environment" in capsys.readouterr().err


def test_every_metric_that_a_file_names_is_ours_or_a_documented_one() -> None:
    text = "".join(path.read_text() for path in (ROOT / FILES).rglob("*.json"))
    named = set(re.findall(r"(?:avg|sum|min|max|p\d\d):([a-z][\w.]*)\{", text))
    assert named <= METRICS.keys() | set(DATADOG_METRICS)
    assert {name for name, metric in METRICS.items() if metric.sender == "serving"} <= named


@pytest.mark.parametrize("path", sorted((ROOT / FILES / "monitors").glob("*.json")), ids=lambda path: path.stem)
def test_a_monitor_says_what_to_do_first_and_whom_it_wakes(path: Path) -> None:
    monitor = json.loads(path.read_text())
    assert "First: " in monitor["message"]
    assert "@team-" in monitor["message"]


@pytest.mark.parametrize("path", sorted((ROOT / FILES / "monitors").glob("*.json")), ids=lambda path: str(path.stem))
def test_an_alert_says_under_which_heading_more_stands(path: Path) -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.*)$", page, re.MULTILINE)}
    message = json.loads(path.read_text(encoding="utf-8"))["message"]
    (named,) = re.findall(r"^More: docs/operations\.md#(\S+)$", message, re.MULTILINE)
    assert named in headings
