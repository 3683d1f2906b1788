"""Records: source files read one record at a time and checked against `model.RECORD`."""

import csv
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from mlplatform.data.checking import RecordChecker, shortened
from mlplatform.data.errors import BrokenFileError
from mlplatform.data.headers import Header, read_header

# By ending, in any case; each may be followed by .gz.
FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv"}
SUFFIXES = tuple(f"{ending}{packed}" for ending in FORMATS for packed in ("", ".gz"))

# A field of a table that is longer than this in one line is a bad record; over several, a quote that is never closed.
FIELD_BYTES = 64 << 20
NUMBERS = frozenset((int, float))
# Ends of lines of old Macs, which Python's csv does not take for one.
LONE_RETURN = re.compile(rb"(?<=\r)(?!\n)")


@dataclass(frozen=True)
class Row:
    """One record of a file: row is its first line, from 1; either `record`, or the reason why there is none."""

    row: int
    record: dict[str, Any] | None
    reason: str = ""


def format_of(name: str) -> str:
    """How a file of this name is read, such as `csv.gz`, or an empty text if it is no file of records."""
    lower = name.lower()
    packed = ".gz" if lower.endswith(".gz") else ""
    kind = next((kind for ending, kind in FORMATS.items() if lower.removesuffix(".gz").endswith(ending)), "")
    return f"{kind}{packed}" if kind else ""


class RecordFile:
    """A source file. kind: see `format_of`. `header`: that of a table, once the first row was asked for."""

    def __init__(self, path: Path, kind: str, checker: RecordChecker) -> None:
        self.header: Header | None = None
        self._path = path
        self._kind = kind
        self._checker = checker
        self._line = 0
        # Places of the columns of numbers and of the others, once there is a header.
        self._numbers: list[int] | None = None
        self._others: list[int] = []
        self._number_names: list[str] = []

    def __iter__(self) -> Iterator[Row]:
        """Yield every row, in order. A row that is no record, or does not fit the schema, has a reason.

        Raises BrokenFileError if the file cannot be read to its end: damaged gzip, bytes that are not UTF-8, a quote
        that is not closed; or if the header of a table is wrong.
        """
        rows = self._json_rows if self._kind.startswith("jsonl") else self._table_rows
        try:
            with gzip.open(self._path, "rb") if self._kind.endswith(".gz") else self._path.open("rb") as file:
                yield from rows(_without_mark(iter(file)))
        except (OSError, EOFError, zlib.error) as error:
            raise BrokenFileError(f"breaks off after row {self._line}: {error}") from None
        except UnicodeDecodeError as error:
            wrong = error.object[error.start]
            raise BrokenFileError(
                f"is not UTF-8 in row {self._line + 1}: byte 0x{wrong:02x}; convert it to UTF-8"
            ) from None

    def _json_rows(self, lines: Iterator[bytes]) -> Iterator[Row]:
        for line in lines:
            for piece in LONE_RETURN.split(line) if line.count(b"\r") > line.endswith(b"\r\n") else [line]:
                if piece and not piece.isspace():
                    record, reason = _parse(piece)
                    reason = reason or self._checker.reason(record)
                    yield Row(self._line + 1, None if reason else record, reason)
                self._line += bool(piece)

    def _table_rows(self, lines: Iterator[bytes]) -> Iterator[Row]:
        """A row of another number of cells is no record; empty cells are null where the column may be, else absent."""
        decoded = self._decoded(lines)
        self.header = header = read_header(decoded, self._checker, "\t" if self._kind.startswith("tsv") else "")
        if header is None:
            return
        csv.field_size_limit(FIELD_BYTES)
        reader = csv.reader(decoded, strict=True, delimiter=header.separator)
        while True:
            row = header.row + reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                if header.row + reader.line_num > row or "unexpected end" in str(error):
                    raise BrokenFileError(f"has a quote in row {row} that is not closed: {error}") from None
                yield Row(row, None, f"not a row of a table: {error}")
                continue
            if cells is None:
                return
            if cells:
                yield self._table_row(row, header, cells)

    def _table_row(self, row: int, header: Header, cells: list[str]) -> Row:
        if len(cells) != len(header.names):
            return Row(row, None, f"has {len(cells)} cells, the header has {len(header.names)}")
        checker = self._checker
        record = None if "" in cells else self._whole_record(header, cells)
        if record is None:
            record = {
                name: checker.cell_value(name, cell)
                for name, cell in zip(header.names, cells, strict=True)
                if cell or checker.may_be_null(name)
            }
        reason = checker.reason(record)
        return Row(row, None if reason else record, reason)

    def _whole_record(self, header: Header, cells: list[str]) -> dict[str, Any] | None:
        """The record of a row without empty cells, or None if a cell of numbers holds none.

        Those that are numbers are a list in JSON: reading that takes a fifth of the time of a cell at a time.
        """
        if self._numbers is None:
            numbers = [i for i, n in enumerate(header.names) if self._checker.holds_numbers(n) and n != "id"]
            others = [i for i in range(len(header.names)) if i not in numbers]
            self._numbers, self._others = numbers, others
            self._number_names = [header.names[i] for i in numbers]
        try:
            values = orjson.loads(f"[{','.join([cells[i] for i in self._numbers])}]")
        except orjson.JSONDecodeError:
            return None
        if len(values) != len(self._numbers) or not NUMBERS.issuperset(map(type, values)):
            return None
        record = dict(zip(self._number_names, values, strict=True))
        for i in self._others:
            record[header.names[i]] = self._checker.cell_value(header.names[i], cells[i])
        return record

    def _decoded(self, lines: Iterator[bytes]) -> Iterator[str]:
        for line in lines:
            for piece in LONE_RETURN.split(line) if line.count(b"\r") > line.endswith(b"\r\n") else [line]:
                if piece:
                    yield piece.decode()
                    self._line += 1


def _without_mark(file: Iterator[bytes]) -> Iterator[bytes]:
    """The lines of a file without the mark that says it is UTF-8."""
    for line in file:
        yield line.removeprefix(b"\xef\xbb\xbf")
        break
    yield from file


def _parse(line: bytes) -> tuple[Any, str]:
    """A line of JSON and why it is none. orjson takes a tenth of the time; what it does not take, `json` explains."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        record = None
    # As many names as members: none is there twice. A float as id may be a long integer, of which orjson loses digits.
    if isinstance(record, dict) and line.count(b'":') == len(record) and type(record.get("id")) is not float:
        return record, ""
    text = line.decode()
    try:
        record = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object)
        json.dumps(record, ensure_ascii=False).encode()
    except RecursionError:
        return None, "not valid JSON: nested too deeply"
    except UnicodeEncodeError:
        return None, "holds half of a surrogate pair (\\ud800 to \\udfff), which is no character"
    except ValueError as error:
        return None, f"not valid JSON: {shortened(str(error))}"
    return record, ""


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(members)
    if len(record) != len(members):
        names = [name for name, _ in members]
        raise ValueError(f'"{next(name for name in names if names.count(name) > 1)}" stands twice')
    return record
