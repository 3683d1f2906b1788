"""`ghost-report` and `feedback` as commands, and what promote asks the store for."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlplatform.delivery.errors import BadRequestError
from mlplatform.delivery.ghost.commands import moment
from mlplatform.delivery.ghost.labels import read
from mlplatform.ghost import reports
from mlplatform.store.storage import LocalStorage
from mlplatform.tests.conftest import Command
from mlplatform.tests.ghost.observations import GHOST, LIVE, NOON, SERVICE, answered

STORE = ("--store", "store")
SINCE = ("--since", NOON.isoformat())


def test_a_report_is_printed_kept_and_written_where_asked(command: Command, tmp_path: Path) -> None:
    answered(tmp_path / "store", [True, False] * 250, [True] * 500)
    done = command("ghost-report", *STORE, *SINCE, "--output", "out")
    assert done.returncode == 0, done.stderr
    first, *reasons, last = done.stdout.splitlines()
    assert first == f"promote: ghost {GHOST} beside {LIVE}"
    assert reasons[0].startswith("  accuracy is 0.5000 higher on 500 rows")
    page = Path(last.removeprefix("report: "))
    assert page.read_text() == (tmp_path / "out" / "report.html").read_text()
    assert page.is_relative_to(tmp_path / "store" / "releases" / "ghost-reports" / GHOST)


def test_a_report_as_json_holds_every_figure(command: Command, tmp_path: Path) -> None:
    answered(tmp_path / "store", [True], [True])
    done = command("ghost-report", *STORE, *SINCE, "--json")
    found = json.loads(done.stdout)
    assert (found["service"], found["verdict"]["decision"]) == (SERVICE, "not enough data")
    assert {"agreement", "comparison", "shift", "latency", "errors", "coverage", "sizing"} <= found.keys()


def test_without_events_the_command_is_refused(command: Command) -> None:
    done = command("ghost-report", *STORE)
    assert done.returncode == 3
    assert "ghost-report: no events in " in done.stderr


def test_a_wrong_threshold_is_told_by_its_name(command: Command) -> None:
    done = command("ghost-report", *STORE, GHOST_MAXIMUM_REGRESSION="2")
    assert done.returncode == 2
    assert "ghost.maximum_regression = '2' (environment variable GHOST_MAXIMUM_REGRESSION)" in done.stderr


@pytest.mark.parametrize(
    ("since", "hours"), [("90m", 1.5), ("24h", 24), ("7d", 168), ("2026-11-22T10:00", 2), ("2026-11-22T13:00+02:00", 1)]
)
def test_since_is_said_as_people_say_it(since: str, hours: float) -> None:
    assert moment(since, NOON) == NOON - timedelta(hours=hours)


def test_a_moment_that_is_none_is_told() -> None:
    with pytest.raises(BadRequestError, match="--since is 'yesterday'; expected such as 90m"):
        moment("yesterday", NOON)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.jsonl", '{"request_id": "r0", "label": "0"}\n\n{"request_id": "r1", "labels": ["1"]}\n'),
        ("labels.csv", "request_id,label\nr0,0\nr1,1\n"),
    ],
)
def test_labels_from_a_file_are_what_the_report_judges_by(
    command: Command, tmp_path: Path, name: str, content: str
) -> None:
    answered(tmp_path / "store", [True, True], [True, False], known=0)
    (tmp_path / name).write_text(content)
    done = command("feedback", name, *STORE)
    assert (done.returncode, done.stdout) == (0, "2 labels\n")
    again = command("feedback", name, *STORE)
    assert again.stdout == "2 labels, all of them known already\n"
    found = json.loads(command("ghost-report", *STORE, *SINCE, "--json").stdout)
    assert (found["labels"], found["accuracy"]["hits"], found["comparison"]["examples"]) == (2, 2, 2)


def test_labels_of_several_rows_come_as_a_list_or_by_row(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("request_id,row,label\nr,2,c\nr,0,a\n")
    (tmp_path / "rows.jsonl").write_text('{"request_id": "r", "labels": ["a", null, "c"]}\n')
    assert read(tmp_path / "rows.csv") == read(tmp_path / "rows.jsonl")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", '{"request_id": "r"}', "line 1: "),
        ("a.jsonl", '{"request_id": "r", "label": "1"}\n{"label": "1"}', "line 2: request_id is None"),
        ("a.jsonl", '{"request_id": "r", "label": {}}', "line 1: labels are [{}]; expected text"),
        ("a.jsonl", "not json", "line 1: not JSON"),
        ("a.jsonl", "", "holds no label"),
        ("a.csv", "id,label\nr,1", "its columns are id, label; expected request_id and label"),
        ("a.csv", "request_id,label\nr,", "line 2: label is empty"),
        ("a.csv", "request_id,row,label\nr,-1,a", "line 2: row is '-1'"),
    ],
)
def test_a_wrong_file_of_labels_is_told_by_line(tmp_path: Path, name: str, content: str, told: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(BadRequestError, match=re.escape(told)):
        read(tmp_path / name)


def test_a_file_of_labels_that_is_not_there_is_told(command: Command, tmp_path: Path) -> None:
    done = command("feedback", "absent.csv", *STORE)
    assert (done.returncode, "absent.csv: No such file" in done.stderr) == (2, True)
    assert not (tmp_path / "store").exists()


def test_promote_is_objected_to_until_a_fresh_report_beside_production_says_promote(
    command: Command, tmp_path: Path
) -> None:
    store, now = LocalStorage(tmp_path / "store"), datetime.now(UTC)

    def objection(production: str | None = LIVE, later: float = 0) -> str:
        return reports.objection(store, GHOST, production, 7, now + timedelta(days=later))

    assert f"there is no ghost report on {GHOST}" in objection()
    answered(tmp_path / "store", [True], [True])
    command("ghost-report", *STORE, *SINCE)
    assert "says not enough data: 1 request answered by both; a verdict takes 200" in objection()
    answered(tmp_path / "store", [True, False] * 250, [True] * 500)
    # Reports of one second would be one report.
    for kept in (tmp_path / "store" / "releases").rglob("*.json"):
        kept.unlink()
    command("ghost-report", *STORE, *SINCE)
    assert objection() == ""
    assert "is older than 7 days" in objection(later=8)
    assert f"compares it with {LIVE}, and cccccccccccc is in production" in objection("cccccccccccc")
