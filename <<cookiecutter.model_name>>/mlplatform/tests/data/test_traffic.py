"""`data add traffic`: stored requests and the labels that came later become records."""

import base64
import gzip
import json
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mlplatform.cli import main
from mlplatform.contract.targets import Classes, Number
from mlplatform.store import manifest
from mlplatform.store.storage import LocalStorage
from mlplatform.tests.data.conftest import AT, ROW, label, prediction, stored

pytestmark = pytest.mark.usefixtures("model")


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


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [{"age": None, "image": [0.0, None]}]},
        {"instances": [{"image": [0.0, None], "size": None}]},
        {"inputs": {"age": [None], "image": [[0.0, None]], "size": [None]}},
        {
            "inputs": [
                {"name": "age", "shape": [1], "datatype": "FP32", "data": [None]},
                {"name": "image", "shape": [1, 2], "datatype": "FP32", "data": [0.0, None]},
                {"name": "size", "shape": [1], "datatype": "FP32", "data": [None]},
            ]
        },
    ],
)
def test_an_input_that_was_missing_is_missing_in_the_record_as_the_schema_has_it(
    model: ModuleType, body: dict[str, Any]
) -> None:
    model.RECORD["properties"] |= {"age": {"type": ["number", "null"]}, "size": {"type": "number"}}
    model.RECORD["required"] = ["age", "image"]
    stored(prediction("r1", body), label("r1", "7"))
    assert add() == 0
    (record,) = records()
    assert {name: value for name, value in record.items() if name in ("age", "size", "image")} == {
        "age": None,
        "image": [0.0, None],
    }


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [{"image": {"b64": "/wD/"}}]},
        {"inputs": {"image": [{"b64": "/wD/"}]}},
        {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": ["/wD/"]}]},
    ],
)
def test_bytes_stay_in_base64(model: ModuleType, body: dict[str, Any]) -> None:
    model.RECORD["properties"]["image"] = {"type": "string", "contentEncoding": "base64"}
    stored(prediction("r1", body), label("r1", "7"))
    assert add() == 0
    assert [record["image"] for record in records()] == ["/wD/"]


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


def test_without_consent_nothing_of_a_request_is_used(capfd: pytest.CaptureFixture[str]) -> None:
    Path("service.toml").write_text('[service]\nname = "under-test"\n')
    stored(prediction("r1", {"instances": [{"image": ROW}]}), label("r1", "7"))
    assert add() == 3
    assert "traffic_consent of [data] is false; set it to true in service.toml if" in capfd.readouterr().err
    assert not Path("store/sources").exists()


def test_the_share_of_requests_may_be_set_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"instances": [{"image": ROW}]}
    names = [f"r{i}" for i in range(100)]
    stored(*(prediction(name, body) for name in names), *(label(name, "7") for name in names))
    monkeypatch.setenv("DATA_TRAFFIC_SAMPLE", "0.5")
    assert add() == 0
    assert 30 < len(records()) < 70


def test_what_is_older_than_it_may_be_leaves_the_sources_and_what_was_read_of_them(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    store = LocalStorage(Path("store").absolute())
    monkeypatch.setenv("DATA_TRAFFIC_DAYS", "30")
    now = datetime.now(UTC)
    old, new = (f"{now - timedelta(days=days):%Y%m%dT%H%M%SZ}" for days in (40, 20))
    first = f"{now - timedelta(days=60):%Y%m%dT%H%M%SZ}"
    expired = [
        f"sources/traffic/{first}-{old}.jsonl.gz",
        f"labelling/asked/{old}-random.jsonl.gz",
        f"sources/labelled/{old}-0123.jsonl.gz",
    ]
    kept = [f"sources/traffic/{first}-{new}.jsonl.gz", "sources/files/20200101T000000Z.jsonl.gz"]
    for key in [*expired, *kept]:
        store.write(key, key.encode())
    Path("part").mkdir()
    files = [{"name": f"{store.identity(expired[0])}:jsonl.gz"}]
    manifest.publish(store, "parts/0/a", Path("part"), "part", "a", {"files": files})
    manifest.publish(store, "parts/0/b", Path("part"), "part", "b", {"files": [{"name": "other:jsonl"}]})
    assert main(["data", "add", "traffic", "--since", "1d"]) == 3
    assert [*store.keys("sources/"), *store.keys("labelling/")] == sorted(kept)
    assert list(store.directories("parts/0/")) == ["b"]
    assert f"removed {store.url}/{expired[0]}: older than 30 days" in capfd.readouterr().out


def test_of_several_targets_each_truth_is_a_property_of_the_record_and_all_have_to_be_known(model: ModuleType) -> None:
    truths = {"digit": {"type": "string"}, "width": {"type": "number"}}
    model.RECORD["properties"] = {"id": {"type": "string"}, "image": model.RECORD["properties"]["image"], **truths}
    model.RECORD["required"] = ["image"]
    model.__dict__["TARGETS"] = (Classes("digit", "0123456789"), Number("width"))
    body = {"instances": [{"image": ROW}]}
    known = json.dumps({"digit": "7", "width": 5.5}), json.dumps({"digit": "7", "width": None})
    lines = [(prediction(f"r{number}", body), label(f"r{number}", truth)) for number, truth in enumerate(known)]
    stored(*lines[0], *lines[1])
    assert add() == 0
    assert records() == [{"id": "r0", "image": ROW, "digit": "7", "width": 5.5}]
