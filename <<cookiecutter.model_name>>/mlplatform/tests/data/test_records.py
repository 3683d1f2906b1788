"""Source data: every row is read or has a reason, with its line; a file that is not read to its end is broken."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlplatform.data import records
from mlplatform.data.checking import RecordChecker
from mlplatform.data.errors import BrokenFileError
from mlplatform.data.packing import PACKED, pack, packing
from mlplatform.data.records import RecordFile, Row, format_of

SCHEMA = {
    "properties": {
        "size": {"type": "number", "minimum": 0},
        "count": {"type": "integer"},
        "label": {"enum": ["a", "b"]},
    },
    "required": ["size", "label"],
    "additionalProperties": False,
}


def opened(path: Path, content: str | bytes, schema: dict[str, Any] = SCHEMA) -> RecordFile:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return RecordFile(path, format_of(path.name), RecordChecker(schema))


def rows(path: Path, content: str | bytes, schema: dict[str, Any] = SCHEMA) -> list[Row]:
    return list(opened(path, content, schema))


def test_json_lines_are_records(tmp_path: Path) -> None:
    read = rows(tmp_path / "x.jsonl", '{"size": 1.5, "label": "a"}\n\n{"size": 2, "label": "b"}\n')
    assert read == [Row(1, {"size": 1.5, "label": "a"}), Row(3, {"size": 2, "label": "b"})]


def test_csv_cells_take_the_type_of_their_column_and_empty_ones_are_absent(tmp_path: Path) -> None:
    read = rows(tmp_path / "x.csv", "size,count,label\n1.5,3,a\n2,,b\n1e2,4.0,a\n")
    assert read == [
        Row(2, {"size": 1.5, "count": 3, "label": "a"}),
        Row(3, {"size": 2, "label": "b"}),
        Row(4, {"size": 100, "count": 4, "label": "a"}),
    ]


@pytest.mark.parametrize(
    "column",
    [
        {"type": ["number", "null"]},
        {"anyOf": [{"type": "number"}, {"type": "null"}]},
        {"$ref": "#/$defs/maybe"},
        {"enum": [1.5, None]},
    ],
)
def test_a_column_that_may_be_null_holds_numbers_and_null_for_an_empty_cell(
    tmp_path: Path, column: dict[str, Any]
) -> None:
    schema = {"properties": {"size": column, "label": {}}, "$defs": {"maybe": {"type": ["number", "null"]}}}
    read = rows(tmp_path / "x.csv", "size,label\n1.5,a\n,b\n", schema)
    assert [row.record for row in read] == [{"size": 1.5, "label": "a"}, {"size": None, "label": "b"}]


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz", "x.JSONL.GZ", "x.ndjson.gz", "x.jsonl.zst", "x.NDJSON.ZST"])
def test_packed_files_are_read_whatever_the_case_of_the_ending(tmp_path: Path, name: str) -> None:
    content = pack(b'{"size": 1, "label": "a"}\n', packing(name))
    assert rows(tmp_path / name, content) == [Row(1, {"size": 1, "label": "a"})]


@pytest.mark.parametrize("ending", PACKED)
def test_a_file_packed_in_several_pieces_is_read_to_its_end(tmp_path: Path, ending: str) -> None:
    pieces = [pack(line, ending) for line in (b"size,label\n", b"1,a\n", b"2,b\n")]
    read = rows(tmp_path / f"x.csv{ending}", b"".join(pieces))
    assert read == [Row(2, {"size": 1, "label": "a"}), Row(3, {"size": 2, "label": "b"})]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not valid JSON: Expecting property name enclosed in double quotes"),
        ('{"size": NaN, "label": "a"}', "not valid JSON: NaN is not a number"),
        ('{"size": 1e400, "label": "a"}', "holds a number that no float64 can hold"),
        ('{"size": 1, "size": 2, "label": "a"}', 'not valid JSON: "size" stands twice'),
        ('{"size": 1, "label": "\\ud800"}', "holds half of a surrogate pair"),
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


def test_half_of_a_surrogate_pair_in_an_id_is_a_bad_record(tmp_path: Path) -> None:
    schema = {"properties": {"id": {"type": "string"}}}
    good, bad = rows(tmp_path / "x.jsonl", '{"id": "\\ud83d\\ude00"}\n{"id": "\\ud83d"}\n', schema)
    assert good.record == {"id": "\N{GRINNING FACE}"}
    assert "holds half of a surrogate pair" in bad.reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1,2", "has 2 cells, the header has 3"),
        ('1,"2"3,a', "not a row of a table: ',' expected after '\"'"),
        ("nan,1,a", 'size: "nan" is not of type "number"'),
        ("1_3.2_0,1,a", 'size: "1_3.2_0" is not of type "number"'),
        ("\N{ARABIC-INDIC DIGIT ONE},1,a", 'size: "\N{ARABIC-INDIC DIGIT ONE}" is not of type "number"'),
        ("1e400,1,a", 'size: "1e400" is not of type "number"'),
        ("+1,1,a", 'size: "+1" is not of type "number"'),
        ("1,1.5,a", 'count: 1.5 is not of type "integer"'),
        (f"1,{'9' * 5000},a", "is not of type"),
    ],
)
def test_a_csv_line_that_is_no_record_has_a_reason_and_the_next_is_read(tmp_path: Path, line: str, reason: str) -> None:
    row, after = rows(tmp_path / "x.csv", f"size,count,label\n{line}\n7,7,a\n")
    assert (row.row, row.record) == (2, None)
    assert reason in row.reason
    assert after == Row(3, {"size": 7, "count": 7, "label": "a"})


def test_a_field_of_a_megabyte_is_read(tmp_path: Path) -> None:
    schema = {"properties": {"text": {"type": "string"}}}
    (row,) = rows(tmp_path / "x.csv", f"text\n{'a' * 1_000_000}\n", schema)
    assert row.record == {"text": "a" * 1_000_000}


def test_a_field_that_is_too_large_is_a_bad_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "FIELD_BYTES", 1000)
    large, after = rows(tmp_path / "x.csv", f"size,count,label\n1,2,{'a' * 2000}\n7,7,a\n")
    assert "field larger than field limit (1000)" in large.reason
    assert after.record == {"size": 7, "count": 7, "label": "a"}


def test_a_record_over_several_lines_is_named_by_its_first(tmp_path: Path) -> None:
    first, second = rows(tmp_path / "x.csv", 'size,label\n1,"a\nb"\n2,c\n')
    assert (first.row, second.row) == (2, 4)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_files_of_every_system_are_read(tmp_path: Path, mark: str, end: str) -> None:
    read = rows(tmp_path / "x.csv", f"{mark}size,label{end}1,a{end}2,b{end}")
    assert read == [Row(2, {"size": 1, "label": "a"}), Row(3, {"size": 2, "label": "b"})]
    lines = f'{mark}{{"size": 1, "label": "a"}}{end}{{"size": 2, "label": "b"}}{end}'
    assert [row.row for row in rows(tmp_path / "x.jsonl", lines) if row.record] == [1, 2]


@pytest.mark.parametrize(
    ("name", "content", "described"),
    [
        ("x.csv", "size;label\n1;a\n", "columns size, label, separated by semicolons"),
        ("x.csv", "size\tlabel\n1\ta\n", "columns size, label, separated by tabs"),
        ("x.tsv", "size\tlabel\n1\ta\n", "columns size, label, separated by tabs"),
        ("x.csv", "size|label\n1|a\n", "columns size, label, separated by bars"),
        ("x.csv", "sep=;\nsize;label\n1;a\n", "separated by semicolons, below a line that is no record: 'sep=;'"),
        ("x.csv", "# by hand\nsize,label\n1,a\n", "below a line that is no record: '# by hand'"),
        ("x.csv", "\n\nsize,label\n1,a\n", "columns size, label, below 2 lines that are no records"),
    ],
)
def test_how_a_table_is_read_is_detected_and_said(tmp_path: Path, name: str, content: str, described: str) -> None:
    file = opened(tmp_path / name, content)
    (row,) = file
    assert row == Row(content.count("\n"), {"size": 1, "label": "a"})
    assert described in str(file.header)


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ("size,label,size", "names 'size' twice"),
        ("size,count", "lacks 'label'"),
        ("size,label,colour", "has 'colour', which the record has not"),
        ("size,label,", "has a column without a name, which the record has not"),
        ("1,2,a", "lacks 'size', 'label' and has '1', '2', 'a', which the record has not"),
    ],
)
def test_a_wrong_header_breaks_the_file_and_is_shown(tmp_path: Path, header: str, fault: str) -> None:
    with pytest.raises(BrokenFileError, match=r"^its header in row 1, ") as raised:
        rows(tmp_path / "x.csv", f"{header}\n1,2,3\n")
    assert f"in row 1, {header!r}, {fault}" in str(raised.value)


@pytest.mark.parametrize("ending", PACKED)
def test_a_file_that_breaks_off_says_after_which_row(tmp_path: Path, ending: str) -> None:
    lines = "".join(json.dumps({"size": i, "label": "a"}) + "\n" for i in range(50_000))
    read = []
    with pytest.raises(BrokenFileError) as raised:
        for row in opened(tmp_path / f"x.jsonl{ending}", pack(lines.encode(), ending)[:-2000]):
            read.append(row)
    assert read
    assert str(raised.value).startswith(f"breaks off after row {len(read)}: ")


@pytest.mark.parametrize("ending", PACKED)
def test_damaged_packing_is_a_broken_file(tmp_path: Path, ending: str) -> None:
    content = bytearray(pack(np.random.default_rng(0).integers(0, 128, 10_000, np.uint8).tobytes(), ending))
    content[12:40] = bytes(28)
    with pytest.raises(BrokenFileError, match=r"^breaks off after row "):
        rows(tmp_path / f"x.csv{ending}", bytes(content))


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
def test_a_byte_that_is_not_utf8_breaks_the_file_at_its_row(tmp_path: Path, name: str) -> None:
    first = b"size,label\n" if name == "x.csv" else b'{"size": 1, "label": "a"}\n'
    with pytest.raises(BrokenFileError, match=r"^is not UTF-8 in row 2: byte 0xe9; convert it to UTF-8$"):
        rows(tmp_path / name, first + b"caf\xe9\n")


def test_a_quote_that_is_never_closed_breaks_the_file_at_its_row(tmp_path: Path) -> None:
    with pytest.raises(BrokenFileError, match=r"^has a quote in row 3 that is not closed"):
        rows(tmp_path / "x.csv", 'size,label\n1,a\n2,"b\n3,a\n4,b\n')
