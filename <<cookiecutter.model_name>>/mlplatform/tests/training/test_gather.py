"""`python -m mlplatform gather`: what it says about files that are not as they should be."""

import html
import json
import re
from pathlib import Path

import pytest

from mlplatform.cli import main
from mlplatform.tests.conftest import Bucket


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source of 200 records in a directory that holds a service.toml."""
    (tmp_path / "service.toml").write_text('[service]\nname = "under-test"\n')
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "data"
    directory.mkdir()
    (directory / "a.jsonl").write_text(records(range(200)))
    return directory


def records(numbers: range) -> str:
    rows = ({"id": f"e{i}", "x": [i, 1, 2, 3], "label": ["no", "yes"][i % 2]} for i in numbers)
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_a_broken_file_is_refused_whatever_share_of_records_may_be_bad(
    source: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    (source / "b.jsonl").write_bytes(records(range(200, 203)).encode() + b"caf\xe9\n")
    assert main(["gather", "--source", "data", "--maximum-bad-records", "0.9"]) == 3
    assert capfd.readouterr().err.splitlines() == [
        "gather: 1 of 2 files cannot be read; repair them, or leave them out by pass_over:",
        "  b.jsonl is not UTF-8 in row 4: byte 0xe9; convert it to UTF-8",
    ]
    assert main(["gather", "--source", "data", "--pass-over", "b.*"]) == 0
    assert "gather: 1 files passed over: b.jsonl" in caplog.messages


def test_what_repeats_or_is_hidden_is_said(source: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    (source / ".ipynb_checkpoints").mkdir()
    (source / ".ipynb_checkpoints" / "a.jsonl").write_text(records(range(10)))
    (source / "again.jsonl").write_text(records(range(200)))
    assert main(["gather", "--source", "data"]) == 0
    assert "gather: 1 hidden files are no data" in caplog.messages
    assert "validate: 1 files repeat others and count once" in caplog.messages


def test_files_checked_before_are_not_downloaded_again(
    source: Path, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    def upload(key: str, numbers: range) -> None:
        bucket.client.put_object(Bucket=bucket.name, Key=f"source/{key}", Body=records(numbers).encode())

    upload("a.jsonl", range(200))
    url = f"s3://{bucket.name}/source"
    assert main(["gather", "--source", url]) == 0
    upload("b.jsonl", range(200, 300))
    before = len(bucket.faults.requests)
    assert main(["gather", "--source", url]) == 0
    requests = bucket.faults.requests[before:]
    assert [request for request in requests if "GET" in request and "a.jsonl" in request] == []
    assert [request for request in requests if "GET" in request and "b.jsonl" in request] != []
    assert "validate: 1 of 2 files were checked before" in caplog.messages


def test_data_with_a_finding_to_be_refused_stops_before_a_training_unless_its_version_is_named(
    source: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (source.parent / "service.toml").write_text('[service]\nname = "under-test"\n[data]\nrefuse = ["constant"]\n')
    assert main(["train", "--source", "data", "--epochs", "1"]) == 3
    (said,) = capfd.readouterr().err.splitlines()
    told = re.fullmatch(
        r"train: dataset (\w{12}): 'x\[1\]' has the same value in every example; .*; `train --dataset \1` takes it as "
        "it is",
        said,
    )
    assert told is not None, said
    assert not (source.parent / "store" / "runs").exists()
    assert main(["train", "--dataset", told[1], "--epochs", "1"]) in (0, 4)


def test_a_wrong_setting_for_data_is_refused_at_once(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (source.parent / "service.toml").write_text('[service]\nname = "under-test"\n[data]\nrefuse = ["leek"]\n')
    assert main(["gather", "--source", "data"]) == 2
    assert "'leek' is no kind of finding" in capfd.readouterr().err
    assert not (source.parent / "store").exists()


def test_records_with_a_null_for_an_input_are_left_out_and_the_report_counts_them(source: Path) -> None:
    rows = ({"id": f"n{i}", "x": None, "label": "no"} for i in range(1000))
    (source / "nulls.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["gather", "--source", "data", "--maximum-bad-records", "0.9"]) == 0
    assert main(["data", "report", "latest", "--output", "report.html"]) == 0
    page = html.unescape((source.parent / "report.html").read_text())
    assert "1,200 records in 2 files: 200 fit, 1,000 were left out for these reasons" in page
    assert re.search(r"<td>x: null is not of type .array.</td><td class=.right.>1,000</td>", page)
