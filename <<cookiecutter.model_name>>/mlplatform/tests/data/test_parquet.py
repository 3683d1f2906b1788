"""Parquet: its rows are the records that JSON lines of the same values are; what JSON has no value for is refused."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlplatform.contract.targets import Classes
from mlplatform.data import parquet
from mlplatform.data.checking import RecordChecker
from mlplatform.data.dataset import InputSpec, Schema
from mlplatform.data.errors import BrokenFileError
from mlplatform.data.records import RecordFile, Row, format_of
from mlplatform.tests.data.test_dataset import prepared_source
from mlplatform.tests.data.test_examples import made

LIST = {"type": "array", "items": {"type": "number"}}
PROPERTIES: dict[str, Any] = {
    "id": {"type": "string"},
    "size": {"type": "number", "minimum": 0},
    "count": {"type": "integer"},
    "maybe": {"type": ["number", "null"]},
    "known": {"type": "boolean"},
    "row": LIST,
    "photo": {"type": "string", "contentEncoding": "base64"},
    "photos": {"type": "array", "items": {"type": "string", "contentEncoding": "base64"}},
    "label": {"enum": ["a", "b"]},
}
RECORD = {"type": "object", "properties": PROPERTIES, "required": ["size", "label"], "additionalProperties": False}


def written(path: Path, columns: Mapping[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def rows(path: Path, columns: Mapping[str, Any], schema: Mapping[str, Any] = RECORD) -> list[Row]:
    return read(written(path, columns), schema)


def read(path: Path, schema: Mapping[str, Any] = RECORD) -> list[Row]:
    return list(RecordFile(path, format_of(path.name), RecordChecker(schema)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.parquet"


def test_values_are_those_of_json(path: Path) -> None:
    columns = {
        "id": pa.array(["one", "two"]).dictionary_encode(),
        "size": pa.array([1, 2.5], pa.float32()),
        "count": pa.array([2**60 + 1, -1], pa.int64()),
        "known": pa.array([True, False]),
        "row": pa.array([[1, 2.5], []], pa.large_list(pa.float64())),
        "photo": pa.array([b"\xff\x00", b""], pa.large_binary()),
        "photos": pa.array([[b"\xff"], []], pa.list_(pa.binary())),
        "label": pa.array(["a", "b"], pa.large_string()),
    }
    first = {"id": "one", "size": 1.0, "count": 2**60 + 1, "known": True, "row": [1.0, 2.5]}
    second = {"id": "two", "size": 2.5, "count": -1, "known": False, "row": []}
    assert rows(path, columns) == [
        Row(1, {**first, "photo": base64.b64encode(b"\xff\x00").decode(), "photos": ["/w=="], "label": "a"}),
        Row(2, {**second, "photo": "", "photos": [], "label": "b"}),
    ]


def test_a_null_is_null_where_the_column_may_be_null_and_absent_elsewhere(path: Path) -> None:
    columns = {"size": [1.0, 2.0, None], "count": [None, 2, 3], "maybe": [None, 1.5, 2.5], "label": ["a", "b", "a"]}
    first, second, third = rows(path, columns)
    assert first.record == {"size": 1.0, "maybe": None, "label": "a"}
    assert second.record == {"size": 2.0, "count": 2, "maybe": 1.5, "label": "b"}
    assert (third.row, third.reason) == (3, '"size" is a required property')


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"size": [1.0, float("nan")]}, "size: holds NaN or infinity; null may stand there"),
        ({"size": [1.0, float("-inf")]}, "size: holds NaN or infinity"),
        ({"maybe": [1.0, float("nan")]}, "maybe: holds NaN or infinity"),
        ({"row": [[1.0], [1.0, float("inf")]]}, "row: holds NaN or infinity"),
        ({"row": [[1.0], [1.0, None]]}, 'row[1]: null is not of type "number"'),
        ({"size": [1.0, -1.0]}, "size: -1.0 is less than the minimum of 0"),
        ({"size": ["1", "2"]}, 'size: "2" is not of type "number"'),
        ({"size": [True, True]}, 'size: true is not of type "number"'),
        ({"count": [1.0, 1.5]}, 'count: 1.5 is not of type "integer"'),
        ({"row": [[[1.0]], [[2.0]]]}, 'row[0]: [2.0] is not of type "number"'),
        ({"label": ["a", "c"]}, 'label: "c" is not one of'),
    ],
)
def test_a_row_that_is_no_record_has_a_reason(path: Path, columns: dict[str, Any], reason: str) -> None:
    read = rows(path, {"size": [1.0, 2.0], "label": ["a", "b"], **columns})
    assert (read[1].row, read[1].record) == (2, None)
    assert reason in read[1].reason


@pytest.mark.parametrize(
    ("name", "column", "fault"),
    [
        ("size", pa.array([Decimal("1.5")]), "has 'size' as decimal128(2, 1), which JSON has no value for: cast it to"),
        ("id", pa.array([datetime(2026, 1, 1, tzinfo=UTC)]), "has 'id' as timestamp[us, tz=UTC], which JSON has no"),
        ("id", pa.array([date(2026, 1, 1)]), "for: write it as text in ISO 8601"),
        ("row", pa.array([[Decimal("1.5")]]), "has 'row' as list<"),
        ("photo", pa.array([{"bytes": b"1", "path": ""}]), "give each of its fields a column of its own"),
        ("row", pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), "write JSON lines"),
        ("label", pa.array([b"a"]), "has 'label' as bytes, which a record cannot hold without contentEncoding"),
        ("photos", pa.array([[[b"a"]]]), "has 'photos' as bytes"),
        ("colour", pa.array(["red"]), "has 'colour', which the record has not"),
    ],
)
def test_a_column_that_no_record_can_have_breaks_the_file(path: Path, name: str, column: pa.Array, fault: str) -> None:
    with pytest.raises(BrokenFileError) as raised:
        rows(path, {"size": [1.0], "label": ["a"], name: column})
    assert fault in str(raised.value)


def test_a_file_that_lacks_a_column_is_broken(path: Path) -> None:
    with pytest.raises(BrokenFileError, match=r"^lacks 'label'$"):
        rows(path, {"size": [1.0]})


def test_a_file_that_is_no_parquet_or_breaks_off_is_broken(path: Path) -> None:
    path.write_text("size,label\n1,a\n")
    with pytest.raises(BrokenFileError, match=r"^is not readable as Parquet: "):
        read(path)
    content = written(path, {"size": [1.0], "label": ["a"]}).read_bytes()
    path.write_bytes(content[:-10])
    with pytest.raises(BrokenFileError, match=r"^is not readable as Parquet: "):
        read(path)


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_damage_is_told_with_the_rows_before_it(path: Path, compression: str) -> None:
    count = 50_000
    columns = {"size": np.arange(count) / 7, "label": ["a"] * count}
    options = {"row_group_size": 10_000, "write_page_checksum": True, "use_dictionary": False}
    content = bytearray(written(path, columns, compression=compression, **options).read_bytes())
    place = pq.ParquetFile(path).metadata.row_group(3).column(0).data_page_offset + 200
    content[place : place + 100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(BrokenFileError) as raised:
        read(path)
    assert str(raised.value).startswith("is damaged after row 30000: ")


def test_text_that_is_not_utf8_breaks_the_file(path: Path) -> None:
    text = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 1], np.int32)), pa.py_buffer(b"\xe9")]
    )
    with pytest.raises(BrokenFileError, match=r"^is damaged after row 0: .*UTF-?8"):
        rows(path, {"size": [1.0], "label": text})


def test_an_empty_file_holds_no_rows(path: Path) -> None:
    assert rows(path, {"size": pa.array([], pa.float64()), "label": pa.array([], pa.string())}) == []


GRID = {"type": "array", "items": {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 255}}}
PLAIN: dict[str, Any] = {
    "id": {"type": "string"},
    "size": {"type": "number", "maximum": 95},
    "count": {"type": "integer"},
    "maybe": {"type": ["number", "null"]},
    "grid": GRID,
    "pixels": GRID,
    "photo": {"type": "string", "contentEncoding": "base64"},
    "about": {"type": "string"},
    "label": {"enum": ["a", "b"]},
}
INPUTS = (
    InputSpec("size", (), "float32"),
    InputSpec("count", (), "int64"),
    InputSpec("maybe", (), "float32", nullable=True),
    InputSpec("grid", (2, 3), "float32"),
    InputSpec("pixels", (2, 3), "uint8"),
    InputSpec("photo", (), "string", media_type="image/jpeg"),
)


def example(i: int) -> dict[str, Any]:
    """Every seventh has a fault of its own."""
    record: dict[str, Any] = {
        "id": f"e{i}",
        "size": i / 10,
        "count": i,
        "maybe": None if i % 3 else i / 3,
        "grid": [[i / 7 % 255, 1, 2], [3, 4, 5]],
        "pixels": [[i % 256, 1, 2], [3, 4, 5]],
        "photo": base64.b64encode(bytes([i % 256])).decode(),
        "about": f"näme {i}",
        "label": "ab"[i % 2],
    }
    faults: list[dict[str, Any]] = [
        {"size": 96.0},
        {"grid": [[1.0]]},
        {"grid": [[1.0, None, 2], [3, 4, 5]]},
        {"pixels": [[1.5, 1, 2], [3, 4, 5]]},
    ]
    return record | (faults[i // 7 % 4] if i % 7 == 6 else {})


@pytest.mark.parametrize("record_keys", [{}, {"minProperties": 0}], ids=["many at a time", "each alone"])
def test_examples_are_those_of_json_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_keys: dict[str, Any]
) -> None:
    monkeypatch.setattr(parquet, "BATCH_ROWS", 100)
    records = [example(i) for i in range(1000)]
    lines = tmp_path / "x.jsonl"
    lines.write_text("".join(json.dumps(record) + "\n" for record in records))
    columns = {name: [record[name] for record in records] for name in PLAIN}
    columns["photo"] = [base64.b64decode(photo) for photo in columns["photo"]]
    record = {"type": "object", "properties": PLAIN, "required": ["size"], "additionalProperties": False}
    schema = Schema(record | record_keys, INPUTS, Classes("label", ("a", "b")))
    found, problems = made(written(tmp_path / "x.parquet", columns, row_group_size=300), schema)
    wanted, wrong = made(lines, schema)
    assert found == wanted
    assert len(found) > 800
    assert [row for row, _ in problems] == [row for row, _ in wrong]


def test_a_version_follows_from_the_examples_and_not_from_their_format(tmp_path: Path) -> None:
    schema = Schema({"type": "object"}, (InputSpec("x", (), "float32"),), Classes("label", ("a", "b")))
    records = [{"id": f"e{i}", "x": i / 2, "label": "ab"[i % 2]} for i in range(300)]
    for folder in ("lines", "lines-work", "table", "table-work"):
        (tmp_path / folder).mkdir()
    (tmp_path / "lines" / "x.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    written(tmp_path / "table" / "x.parquet", {name: [record[name] for record in records] for name in records[0]})
    versions = [
        prepared_source(tmp_path / folder, tmp_path / f"{folder}-store", tmp_path / f"{folder}-work", schema)[0]
        for folder in ("lines", "table")
    ]
    assert versions[0].id == versions[1].id
