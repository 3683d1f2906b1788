"""What a training job leaves in the store for delivery."""

import json
from pathlib import Path

import pytest

from mlplatform.contract.errors import ExitCode
from mlplatform.contract.result import JobResult, read_result, write_result
from mlplatform.store.manifest import ArtifactError
from mlplatform.store.storage import LocalStorage

CLOSED = JobResult(
    ExitCode.GATE_CLOSED, "too bad; nothing is published", report="runs/r/report.html", reasons=("too bad",)
)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    store = LocalStorage(tmp_path)
    write_result(store, "job", CLOSED)
    assert read_result(store, "job") == CLOSED
    assert json.loads((tmp_path / "jobs" / "job" / "result.json").read_bytes()) == {
        "format": 1,
        "outcome": "gate_closed",
        "exit_code": 4,
        "message": "too bad; nothing is published",
        "model": None,
        "report": "runs/r/report.html",
        "reasons": ["too bad"],
    }


def test_a_later_attempt_replaces_it(tmp_path: Path) -> None:
    store = LocalStorage(tmp_path)
    write_result(store, "job", CLOSED)
    write_result(store, "job", JobResult(ExitCode.DONE, model="0123456789ab"))
    assert read_result(store, "job") == JobResult(ExitCode.DONE, model="0123456789ab")


def test_there_is_none_before_it_is_written(tmp_path: Path) -> None:
    assert read_result(LocalStorage(tmp_path), "job") is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"format": 2}', CLOSED.to_json().replace(b"4", b"99")])
def test_what_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    store = LocalStorage(tmp_path)
    store.write("jobs/job/result.json", content)
    with pytest.raises(ArtifactError, match=r"jobs/job/result\.json: not the result of a job \("):
        read_result(store, "job")
