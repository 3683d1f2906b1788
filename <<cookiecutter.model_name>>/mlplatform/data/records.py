"""Records: source files read in batches of rows, each parsed by the rules of JSON and of `model.RECORD`."""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

import orjson

from mlplatform.data.batches import Batch, JsonBatch, Problem
from mlplatform.data.checking import RecordChecker, shortened
from mlplatform.data.errors import BrokenFileError
from mlplatform.data.headers import Header, read_header
from mlplatform.data.packing import DAMAGED, PACKED, open_file, packing, unpacked_name
from mlplatform.data.tables import SplitRows, plain_lines

# By ending, in any case; each may be followed by one of PACKED. Parquet packs its columns itself.
FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv"}
PARQUET = "parquet"
SUFFIXES = (*(f"{ending}{packed}" for ending in FORMATS for packed in ("", *PACKED)), f".{PARQUET}")

# Within a name, before its ending: records that are as `model.RECORD` says, which `model.STEPS` pass by.
READY = ".ready"

# A field of a table that is longer than this in one line is a bad record; over several, a quote that is never closed.
FIELD_BYTES = 64 << 20
# Read at once. As Python's objects it takes several times as much, and stays in the processor's cache.
BLOCK_BYTES = 1 << 18
UTF8_MARK = b"\xef\xbb\xbf"
# Ends of lines of old Macs, which Python's csv does not take for one.
LONE_RETURN = re.compile(rb"(?<=\r)(?!\n)")


@dataclass(frozen=True)
class Row:
    """One record of a file: row is its first line, or its number in Parquet, from 1; either `record`, or the reason why
    there is none.
    """

    row: int
    record: dict[str, Any] | None
    reason: str = ""


def format_of(name: str) -> str:
    """How a file of this name is read, such as `csv.gz` or `jsonl.ready.gz`, or an empty text if it is no file of
    records.
    """
    inner = unpacked_name(name).lower()
    if inner.endswith(f".{PARQUET}"):
        return f"{PARQUET}{_ready(inner)}" if inner == name.lower() else ""
    kind = next((kind for ending, kind in FORMATS.items() if inner.endswith(ending)), "")
    return f"{kind}{_ready(inner)}{packing(name)}" if kind else ""


def is_ready(kind: str) -> bool:
    """Whether a file that is read in this way, see `format_of`, holds records that no step is applied to."""
    return READY in kind


def _ready(name: str) -> str:
    return READY if name.rpartition(".")[0].endswith(READY) else ""


class RecordFile:
    """A source file. kind: see `format_of`. `header`: that of a table, once the first rows were asked for."""

    def __init__(self, path: Path, kind: str, checker: RecordChecker) -> None:
        self.header: Header | None = None
        self._path = path
        self._kind = kind
        self._checker = checker
        self._names = sorted({"id", *checker.needed})
        # Lines of all blocks but the one that is being read.
        self._line = 0
        self._broken = ""

    def __iter__(self) -> Iterator[Row]:
        """Yield every row, in order. A row that is no record, or does not fit the schema, has a reason.

        Raises BrokenFileError as `batches` does.
        """
        for batch in self.batches():
            rows = [Row(problem.row, None, problem.reason) for problem in batch.problems]
            for i, row in enumerate(batch.rows):
                record = batch.record(i)
                reason = self._checker.reason(record)
                rows.append(Row(row, None if reason else record, reason))
            yield from sorted(rows, key=attrgetter("row"))

    def batches(self) -> Iterator[Batch]:
        """Yield the rows, parsed but not checked, many at a time and in order.

        Raises BrokenFileError if the file cannot be read to its end: damaged compression, bytes that are not UTF-8, a
        quote that is not closed; or if the header of a table is wrong, or a column of Parquet. The rows that precede
        the fault are yielded before.
        """
        if self._kind.startswith(PARQUET):
            yield from self._parquet_batches()
            return
        batches = self._json_batches if self._kind.startswith("jsonl") else self._table_batches
        with open_file(self._path, packing(self._kind)) as file:
            yield from batches(self._blocks(file))
        if self._broken:
            raise BrokenFileError(f"breaks off after row {self._line}: {self._broken}")

    def _parquet_batches(self) -> Iterator[Batch]:
        from mlplatform.data.parquet import ParquetFile

        file = ParquetFile(self._path, self._checker)
        self.header = Header(file.names, ",", 0)
        yield from file.batches()

    def _blocks(self, file: io.BufferedIOBase) -> Iterator[bytes]:
        """Whole lines, many at a time; the last one may lack its end, unless the file breaks off."""
        begun: list[bytes] = []
        mark = UTF8_MARK
        try:
            # Unlike read, read1 loses nothing of what precedes damage.
            while block := file.read1(BLOCK_BYTES):
                begun.append(block.removeprefix(mark))
                mark = b""
                if sum(map(len, begun)) >= BLOCK_BYTES and b"\n" in block:
                    lines, end, rest = b"".join(begun).rpartition(b"\n")
                    begun = [rest]
                    yield lines + end
        except DAMAGED as error:
            self._broken = str(error)
        lines, end, rest = b"".join(begun).rpartition(b"\n")
        if last := lines + end if self._broken else lines + end + rest:
            yield last

    def _json_batches(self, blocks: Iterator[bytes]) -> Iterator[Batch]:
        for block in blocks:
            lines = _lines(block)
            records = _records(block, lines)
            if records is None:
                yield from self._mixed_batch(lines)
            else:
                rows = range(self._line + 1, self._line + len(lines) + 1)
                yield JsonBatch(rows, records, [], self._names, b"true" in block or b"false" in block)
                self._line += len(lines)

    def _mixed_batch(self, lines: Iterable[bytes]) -> Iterator[Batch]:
        """Lines of which some may be no records."""
        rows: list[int] = []
        records: list[Any] = []
        problems: list[Problem] = []
        fault = ""
        for line in lines:
            try:
                record, reason = _parse(line) if line.strip() else (None, "")
            except UnicodeDecodeError as error:
                fault = _not_utf8(error, self._line + 1)
                break
            self._line += 1
            if reason:
                problems.append(Problem(self._line, reason))
            elif line.strip():
                rows.append(self._line)
                records.append(record)
        yield JsonBatch(rows, records, problems, self._names, True)
        if fault:
            raise BrokenFileError(fault)

    def _table_batches(self, blocks: Iterator[bytes]) -> Iterator[Batch]:
        texts = self._texts(blocks)
        # The header is the first lines of the first block, and hardly ever goes beyond.
        read: list[io.StringIO] = []
        lines = chain.from_iterable(_opened(text, read) for text in texts)
        self.header = header = read_header(lines, self._checker, "\t" if self._kind.startswith("tsv") else "")
        if header is None:
            return
        csv.field_size_limit(FIELD_BYTES)
        line = header.row
        for text in chain([read[-1].read()], texts):
            short = len(text) <= FIELD_BYTES
            plain = plain_lines(header, self._checker, line + 1, text) if short else None
            if plain is not None:
                yield plain
                line += _count_lines(text)
            else:
                rows = SplitRows(header, self._checker)
                try:
                    line += self._split(text, texts, line, rows)
                except BrokenFileError:
                    yield rows
                    raise
                yield rows

    def _split(self, text: str, more: Iterator[str], line: int, rows: SplitRows) -> int:
        """Split the lines of a text, and of more if its last row goes on there; returns how many lines these are.

        line: how many lines precede.
        """
        given = 0

        def opened(text: str) -> io.StringIO:
            nonlocal given
            given += _count_lines(text)
            return io.StringIO(text, newline="")

        reader = csv.reader(
            chain.from_iterable(map(opened, chain([text], more))), strict=True, delimiter=rows.header.separator
        )
        row = line + 1
        while True:
            try:
                for cells in reader:
                    rows.add(row, cells)
                    row = line + 1 + reader.line_num
                    if reader.line_num == given:
                        return given
                return given
            except csv.Error as error:
                if self._broken:
                    return given
                if line + reader.line_num > row or "unexpected end" in str(error):
                    raise BrokenFileError(f"has a quote in row {row} that is not closed: {error}") from None
                rows.problems.append(Problem(row, f"not a row of a table: {error}"))
                row = line + 1 + reader.line_num
                if reader.line_num == given:
                    return given

    def _texts(self, blocks: Iterator[bytes]) -> Iterator[str]:
        for block in blocks:
            fault = ""
            try:
                text = block.decode()
            except UnicodeDecodeError as error:
                before = block[: error.start]
                text = block[: max(before.rfind(b"\n"), before.rfind(b"\r")) + 1].decode()
                fault = _not_utf8(error, self._line + _count_lines(text) + 1)
            yield text
            if fault:
                raise BrokenFileError(fault)
            self._line += _count_lines(text)


def _opened(text: str, opened: list[io.StringIO]) -> io.StringIO:
    """The lines of a text, whatever ends them; they are noted as opened."""
    opened.append(io.StringIO(text, newline=""))
    return opened[-1]


def _lines(block: bytes) -> list[bytes]:
    """Lines without their ends, but for a carriage return."""
    if b"\r" in block and block.count(b"\r") > block.count(b"\r\n"):
        return [piece for line in io.BytesIO(block) for piece in LONE_RETURN.split(line) if piece]
    lines = block.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _count_lines(text: str) -> int:
    ends = text.count("\n")
    if "\r" in text:
        ends += text.count("\r") - text.count("\r\n")
    return ends + bool(text and text[-1] not in "\r\n")


def _not_utf8(error: UnicodeDecodeError, row: int) -> str:
    return f"is not UTF-8 in row {row}: byte 0x{error.object[error.start]:02x}; convert it to UTF-8"


def _records(block: bytes, lines: Sequence[bytes]) -> list[dict[str, Any]] | None:
    """The objects of lines that each hold one and whose values orjson reads exactly; None if others are among them."""
    try:
        records = list(map(orjson.loads, lines))
    except orjson.JSONDecodeError:
        return None
    if set(map(type, records)) != {dict}:
        return None
    members = sum(map(len, records))
    # Texts may hold colons as well; then those after names are counted, which takes longer.
    if block.count(b":") != members and block.count(b'":') != members:
        return None
    return None if float in {type(record.get("id")) for record in records} else records


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
