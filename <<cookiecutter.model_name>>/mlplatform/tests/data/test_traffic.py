"""`data add traffic`: stored requests and the labels that came later become records."""

import base64
import gzip
import json
import struct
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mlplatform.cli import main
from mlplatform.contract import events
from mlplatform.contract.events import Process
from mlplatform.store.storage import LocalStorage

AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
ROW = [0.0, 1.0]


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The team's package; the current directory holds a service.toml."""
    (tmp_path / "service.toml").write_text('[service]\nname = "under-test"\n')
    monkeypatch.chdir(tmp_path)
    properties: dict[str, Any] = {"id": {}, "image": {}, "label": {}, "model": {}, "predicted": {}}
    package = ModuleType("model")
    package.__dict__["RECORD"] = {"type": "object", "properties": properties}
    monkeypatch.setitem(sys.modules, "model", package)
    return package


def stored(*lines: dict[str, Any], role: str = "live", number: int = 0) -> None:
    """A segment of events in the store."""
    process = Process("under-test", role, "v1", "host", role)
    content = "".join(json.dumps(line) + "\n" for line in (process.header(), *lines))
    LocalStorage(Path("store").absolute()).write(events.key(process, number, AT), events.pack(content.encode()))


def prediction(request: str, body: Any, **changes: Any) -> dict[str, Any]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    event = {"kind": "prediction", "at": AT.timestamp() + 1, "id": request, "status": 200, "ms": 1.0, "labels": ["p"]}
    return event | {"body": base64.b64encode(content).decode()} | changes


def label(request: str, *labels: str | None, later: float = 9) -> dict[str, Any]:
    return {"kind": "label", "at": AT.timestamp() + later, "id": request, "labels": list(labels)}


def add(*arguments: str) -> int:
    return int(main(["data", "add", "traffic", "--since", "2026-03-04", "--until", "2026-03-05", *arguments]))


def records() -> list[dict[str, Any]]:
    (path,) = Path("store/sources/traffic").iterdir()
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [{"image": ROW}]},
        {"inputs": {"image": [ROW]}},
        {"inputs": [{"name": "image", "shape": [1, 2], "datatype": "FP32", "data": ROW}]},
        {"inputs": [{"name": "image", "shape": [1, 2], "datatype": "FP32", "data": [ROW]}]},
    ],
)
def test_a_labelled_request_of_every_protocol_becomes_a_record(body: dict[str, Any]) -> None:
    stored(prediction("r1", body))
    stored(label("r1", "7"), role="feedback")
    assert add() == 0
    assert records() == [{"id": "r1", "image": ROW, "label": "7", "model": "v1", "predicted": "p"}]


def test_rows_of_a_request_are_records_of_their_own_and_those_without_a_label_are_counted(
    capfd: pytest.CaptureFixture[str],
) -> None:
    rows = [{"image": [float(i)]} for i in range(3)]
    stored(prediction("r1", {"instances": rows}, labels=["p", "q", "r"]), label("r1", "7", None, "9"))
    assert add() == 0
    assert [(r["id"], r["label"], r["predicted"]) for r in records()] == [("r1-0", "7", "p"), ("r1-2", "9", "r")]
    assert "       1 rows without a label\n" in capfd.readouterr().out


def test_the_latest_label_counts_whichever_segment_it_is_in() -> None:
    stored(prediction("r1", {"instances": [{"image": ROW}]}), label("r1", "new", later=20))
    stored(label("r1", "old", later=10), role="feedback")
    assert add() == 0
    assert [record["label"] for record in records()] == ["new"]


def test_what_cannot_be_joined_is_counted_by_reason(capfd: pytest.CaptureFixture[str]) -> None:
    body = {"instances": [{"image": ROW}]}
    binary = struct.pack("<4f", 1, 2, 3, 4)
    stored(
        prediction("good", body),
        prediction("good", body),
        prediction("unlabelled", body),
        prediction("failed", body, status=500),
        prediction("bytes", binary),
        prediction("two", body),
        {key: value for key, value in prediction("bare", body).items() if key != "body"},
        prediction("early", body, at=AT.timestamp() - 86400),
        *(label(name, "7") for name in ("good", "failed", "bytes", "bare", "early")),
        label("two", "7", "8"),
    )
    stored(prediction("ghostly", body), label("ghostly", "7"), role="ghost")
    assert add() == 0
    assert [record["id"] for record in records()] == ["good"]
    assert sorted(capfd.readouterr().out.splitlines()[:-2]) == [
        "       1 requests in a form that is not read",
        "       1 requests that were not answered with 200",
        "       1 requests whose body was not stored",
        "       1 requests with another number of rows than labels",
        "       1 requests with the id of another",
        "       1 requests without labels",
    ]


def test_text_in_base64_is_text_again() -> None:
    text = base64.b64encode("näme".encode()).decode()
    stored(prediction("r1", {"instances": [{"image": {"b64": text}}]}), label("r1", "7"))
    assert add() == 0
    assert records()[0]["image"] == "näme"


def test_the_model_says_what_may_be_kept(model: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    def redact(record: dict[str, Any]) -> dict[str, Any] | None:
        return None if record["id"] == "secret" else record | {"image": [0.5]}

    model.__dict__["redact"] = redact
    body = {"instances": [{"image": ROW}]}
    stored(prediction("r1", body), prediction("secret", body), label("r1", "7"), label("secret", "7"))
    assert add() == 0
    assert [(record["id"], record["image"]) for record in records()] == [("r1", [0.5])]
    assert "       1 rows that may not be kept\n" in capfd.readouterr().out


def test_the_same_events_give_the_same_file_and_a_sample_of_them_a_part() -> None:
    body = {"instances": [{"image": ROW}]}
    names = [f"r{i}" for i in range(100)]
    stored(*(prediction(name, body) for name in names), *(label(name, "7") for name in names))
    for output in ("one.jsonl.gz", "other.jsonl.gz"):
        assert add("--output", output, "--sample", "0.5") == 0
    content = Path("one.jsonl.gz").read_bytes()
    assert content == Path("other.jsonl.gz").read_bytes()
    assert 30 < len(gzip.decompress(content).splitlines()) < 70


def test_without_a_labelled_request_it_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert add() == 3
    assert "no request from 2026-03-04 00:00 UTC on has both a stored body and a label" in capfd.readouterr().err


def test_a_time_that_is_none_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "add", "traffic", "--since", "yesterday"]) == 2
    assert "'yesterday' is neither a time ago, such as 7d, nor a moment in ISO 8601" in capfd.readouterr().err
