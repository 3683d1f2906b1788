"""Source data: every row is read or has a reason, with its line."""

import gzip
import json
from pathlib import Path

import pytest

from mlplatform.data.records import Row, read_rows

SCHEMA = {
    "properties": {
        "size": {"type": "number", "minimum": 0},
        "count": {"type": "integer"},
        "label": {"enum": ["a", "b"]},
    },
    "required": ["size", "label"],
    "additionalProperties": False,
}


def rows(path: Path, content: str) -> list[Row]:
    path.write_text(content, encoding="utf-8")
    return list(read_rows(path, SCHEMA))


def test_json_lines_are_records(tmp_path: Path) -> None:
    found = rows(tmp_path / "x.jsonl", '{"size": 1.5, "label": "a"}\n\n{"size": 2, "label": "b"}\n')
    assert found == [Row(1, {"size": 1.5, "label": "a"}), Row(3, {"size": 2, "label": "b"})]


def test_csv_cells_take_the_type_of_their_column_and_empty_ones_are_absent(tmp_path: Path) -> None:
    found = rows(tmp_path / "x.csv", "size,count,label\n1.5,3,a\n2,,b\n")
    assert found == [Row(2, {"size": 1.5, "count": 3, "label": "a"}), Row(3, {"size": 2.0, "label": "b"})]


def test_gzip_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"size": 1, "label": "a"}\n'))
    assert list(read_rows(path, SCHEMA)) == [Row(1, {"size": 1, "label": "a"})]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not valid JSON: Expecting property name enclosed in double quotes"),
        ('{"size": NaN, "label": "a"}', "not valid JSON: NaN is not a number"),
        ("[1]", "must be a JSON object, is [1]"),
        ("[" * 100_000, "not valid JSON: nested too deeply"),
        ('{"size": -1, "label": "a"}', "size: -1 is less than the minimum of 0"),
        ('{"label": "a"}', '"size" is a required property'),
        ('{"size": -1, "label": "c"}', "(and 1 more)"),
        ('{"size": 1, "label": "a", "x": 1}', "Additional properties are not allowed ('x' was unexpected)"),
    ],
)
def test_a_line_that_is_no_record_has_a_reason(tmp_path: Path, line: str, reason: str) -> None:
    (row,) = rows(tmp_path / "x.jsonl", f"{line}\n")
    assert row.row == 1
    assert row.record is None
    assert reason in row.reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1,2", "has 2 cells, the header has 3"),
        ("nan,1,a", 'size: "nan" is not of type "number"'),
        ("1,1.5,a", 'count: "1.5" is not of type "integer"'),
    ],
)
def test_a_csv_line_that_is_no_record_has_a_reason(tmp_path: Path, line: str, reason: str) -> None:
    (row,) = rows(tmp_path / "x.csv", f"size,count,label\n{line}\n")
    assert (row.row, row.record) == (2, None)
    assert reason in row.reason


def test_a_file_that_breaks_off_keeps_what_was_read_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    lines = "".join(json.dumps({"size": i, "label": "a"}) + "\n" for i in range(50_000))
    path.write_bytes(gzip.compress(lines.encode())[:-2000])
    *read, last = read_rows(path, SCHEMA)
    assert read
    assert all(row.record for row in read)
    assert last.row == len(read) + 1
    assert last.reason.startswith("the file cannot be read any further: ")
