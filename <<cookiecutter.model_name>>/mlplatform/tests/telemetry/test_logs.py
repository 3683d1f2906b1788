"""Log lines that Datadog reads without rules of its own."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlplatform.telemetry.logs import JsonFormatter, wants_json

ROOT = Path(__file__).parents[3]


def formatted(record: logging.LogRecord, service: str = "digits") -> dict[str, Any]:
    line = JsonFormatter(service).format(record)
    assert "\n" not in line
    content: dict[str, Any] = json.loads(line)
    return content


def record(message: str = "hello %s", *arguments: object, **extra: object) -> logging.LogRecord:
    return logging.getLogger("a.b").makeRecord(
        "a.b", logging.WARNING, "file", 1, message, arguments or ("you",), None, extra=extra
    )


def test_a_record_is_one_object_with_datadogs_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DD_ENV", "production")
    monkeypatch.delenv("DD_VERSION", raising=False)
    content = formatted(record())
    assert content.pop("timestamp").endswith("Z")
    assert content == {
        "status": "warning",
        "message": "hello you",
        "logger.name": "a.b",
        "dd.service": "digits",
        "dd.env": "production",
    }


def test_it_carries_request_trace_and_model_and_nothing_unforeseen() -> None:
    content = formatted(record(request_id="r1", model_version="v7", trace_id="0af7", span_id="9", body="secret"))
    assert content["request_id"] == "r1"
    assert content["model_version"] == "v7"
    assert (content["dd.trace_id"], content["dd.span_id"]) == ("0af7", "9")
    assert "secret" not in json.dumps(content)


def test_an_exception_is_in_the_same_line() -> None:
    try:
        raise KeyError("gone")
    except KeyError:
        content = formatted(logging.getLogger("x").makeRecord("x", logging.ERROR, "f", 1, "failed", (), sys.exc_info()))
    assert content["error.kind"] == "KeyError"
    assert "Traceback" in content["error.stack"]


def test_values_that_json_does_not_know_are_written_as_text() -> None:
    assert formatted(record(run_id=Path("x")))["run_id"] == "x"


def test_what_ends_a_process_and_what_warns_are_json_too() -> None:
    code = "import warnings; from mlplatform.telemetry.logs import log_json; log_json('s'); "
    code += "warnings.warn('old'); {}['gone']"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    warning, end = [json.loads(line) for line in ended.stdout.splitlines()]
    assert "old" in warning["message"]
    assert end["error.kind"] == "KeyError"
    assert (ended.returncode, ended.stderr) == (1, "")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"LOG_FORMAT": "json"}, True),
        ({"DD_ENV": "production"}, True),
        ({"DD_AGENT_HOST": "10.0.0.1", "LOG_FORMAT": "text"}, False),
    ],
)
def test_logs_are_json_where_datadog_is_and_where_one_says_so(environment: dict[str, str], expected: bool) -> None:
    assert wants_json(environment) is expected
