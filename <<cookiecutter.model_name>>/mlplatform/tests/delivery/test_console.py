"""What a command says while it works: text for a person, JSON lines where logs are collected."""

import json
from typing import Any

import pytest

from mlplatform.tests.conftest import Command

REPORT = ("ghost-report", "--store", "store", "--since", "1h")


def test_progress_and_errors_are_lines_of_text(command: Command) -> None:
    done = command(*REPORT)
    assert done.stderr.startswith("reading events of ")
    assert not [line for line in done.stderr.splitlines() if line.startswith("{")]


def test_where_logs_are_json_each_is_an_object_as_the_other_rooms_write_them(command: Command) -> None:
    done = command(*REPORT, LOG_FORMAT="json", DD_ENV="production")
    progress, *_ = said = [json.loads(line) for line in done.stderr.splitlines()]
    assert progress["message"].startswith("reading events of ")
    assert (progress["status"], progress["logger.name"], progress["dd.env"]) == ("info", "delivery", "production")
    assert progress["dd.service"]
    assert len({tuple(line)[:4] for line in said}) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("realease",), 2, "No such command 'realease'"),
        (("models", "--store", "gs://bucket"), 1, "storage URL 'gs://bucket'"),
    ],
)
def test_so_is_what_ends_it(command: Command, arguments: tuple[str, ...], code: int, message: str) -> None:
    done = command(*arguments, LOG_FORMAT="json")
    (line,) = done.stderr.splitlines()
    content: dict[str, Any] = json.loads(line)
    assert (done.returncode, content["status"]) == (code, "error")
    assert message in content["message"]
