"""Tables in text: blocks of lines become batches of records."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from mlplatform.data.batches import MISSING, Batch, Problem, Record
from mlplatform.data.checking import RecordChecker
from mlplatform.data.columns import Array
from mlplatform.data.headers import Header
from mlplatform.data.plain_checks import EXACT, NUMBERS

NEW_LINE = ord("\n")


class Table:
    """Rows as cells of text. column: the cells below a name's place in the header; row: those of a row."""

    def __init__(
        self,
        header: Header,
        checker: RecordChecker,
        rows: Sequence[int],
        column: Callable[[int], Sequence[str]],
        row: Callable[[int], Sequence[str]],
    ) -> None:
        self._checker = checker
        self._names = header.names
        self._places = {name: place for place, name in enumerate(header.names)}
        self._rows = rows
        self._cells = column
        self._row = row

    def batch(self, problems: list[Problem], numbers: Callable[[str], Array | None] = lambda name: None) -> Batch:
        """The records, see `Batch`."""
        return Batch(self._rows, self._record, self._values, self._others, problems, numbers)

    def _record(self, i: int) -> dict[str, Any]:
        """Empty cells are null where the column may be null, and absent elsewhere."""
        checker = self._checker
        return {
            name: checker.cell_value(name, cell)
            for name, cell in zip(self._names, self._row(i), strict=True)
            if cell or checker.may_be_null(name)
        }

    def _values(self, name: str) -> Sequence[Any]:
        if name not in self._places:
            return [MISSING] * len(self._rows)
        cells = self._cells(self._places[name])
        if self._checker.holds_numbers(name) and name != "id" and (values := json_numbers(",".join(cells), len(cells))):
            return values
        return self._cell_values(name, cells)

    def _cell_values(self, name: str, cells: Sequence[str]) -> Sequence[Any]:
        if self._checker.holds_text(name) and "" not in cells:
            return cells
        may_be_null = self._checker.may_be_null(name)
        return [self._checker.cell_value(name, cell) if cell or may_be_null else MISSING for cell in cells]

    def _others(self, known: frozenset[str]) -> Sequence[Record] | None:
        names = [name for name in self._names if name not in known]
        if not names:
            return None
        rows = zip(*(self._cell_values(name, self._cells(self._places[name])) for name in names), strict=True)
        return [{n: value for n, value in zip(names, row, strict=True) if value is not MISSING} for row in rows]


@dataclass
class SplitRows:
    """Rows that csv.reader has split. rows: the first line of each, from 1."""

    header: Header
    checker: RecordChecker
    rows: list[int] = field(default_factory=list)
    cells: list[list[str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def batch(self) -> Batch:
        """All rows with as many cells as the header has; one without any is a blank line, others are problems."""
        width = len(self.header.names)
        if set(map(len, self.cells)) - {width}:
            wrong = {i: len(cells) for i, cells in enumerate(self.cells) if len(cells) != width}
            for i, count in wrong.items():
                if count:
                    self.problems.append(Problem(self.rows[i], f"has {count} cells, the header has {width}"))
            self.rows = [row for i, row in enumerate(self.rows) if i not in wrong]
            self.cells = [cells for i, cells in enumerate(self.cells) if i not in wrong]
        table = Table(self.header, self.checker, self.rows, self._column, self.cells.__getitem__)
        return table.batch(self.problems)

    @cached_property
    def _columns(self) -> list[tuple[str, ...]]:
        return list(zip(*self.cells, strict=True)) or [()] * len(self.header.names)

    def _column(self, place: int) -> Sequence[str]:
        return self._columns[place]


class PlainLines:
    """Lines without quotes, in which a separator always ends a cell. row: the first line, from 1.

    starts, ends: (rows, columns) int64, where each cell is in the text's bytes.
    """

    def __init__(self, text: str, content: bytes, starts: Array, ends: Array, separator: str) -> None:
        self._text = text if len(text) == len(content) else None
        self._content = content
        self._starts = starts
        self._ends = ends
        self._separator = separator.encode()

    def batch(self, header: Header, checker: RecordChecker, row: int) -> Batch:
        """All lines as records."""
        places = [p for p, name in enumerate(header.names) if checker.holds_numbers(name) and name != "id"]
        arrays: dict[str, Array] = {}
        for first, last in _runs(places):
            if (array := self._numbers(first, last)) is not None:
                arrays |= dict(zip(header.names[first : last + 1], array.T, strict=True))
        table = Table(header, checker, range(row, row + len(self._starts)), self._column, self._row)
        return table.batch([], arrays.get)

    def _column(self, place: int) -> Sequence[str]:
        spans = zip(self._starts[:, place].tolist(), self._ends[:, place].tolist(), strict=True)
        if self._text is not None:
            text = self._text
            return [text[start:end] for start, end in spans]
        return [self._content[start:end].decode() for start, end in spans]

    def _row(self, i: int) -> Sequence[str]:
        spans = zip(self._starts[i].tolist(), self._ends[i].tolist(), strict=True)
        return [self._content[start:end].decode() for start, end in spans]

    def _numbers(self, first: int, last: int) -> Array | None:
        """The cells of neighbouring columns as float64 (rows, columns), or None if one of them is no such number.

        Read as one list in JSON.
        """
        spans = zip(self._starts[:, first].tolist(), self._ends[:, last].tolist(), strict=True)
        text = b",".join([self._content[start:end] for start, end in spans])
        width = last + 1 - first
        values = json_numbers(text.replace(self._separator, b","), len(self._starts) * width)
        if values is None:
            return None
        array = np.asarray(values, np.float64)
        return array.reshape(-1, width) if np.abs(array).max() < EXACT else None


def plain_lines(text: str, header: Header) -> PlainLines | None:
    """Lines of a table, or None if they hold quotes, ends of lines of old Macs, or another number of cells."""
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    width, separator = len(header.names), header.separator
    if width < 2 or '"' in text or "\r" in text or not separator.isascii():
        return None
    content = (text if text.endswith("\n") else f"{text}\n").encode()
    characters = np.frombuffer(content, np.uint8)
    line_ends = characters == NEW_LINE
    ends = np.flatnonzero(line_ends | (characters == ord(separator)))
    lines = int(np.count_nonzero(line_ends))
    if len(ends) != lines * width or not line_ends[ends[width - 1 :: width]].all():
        return None
    starts: NDArray[np.int64] = np.concatenate([[0], ends[:-1] + 1])
    return PlainLines(text, content, starts.reshape(lines, width), ends.reshape(lines, width), separator)


def json_numbers(text: str | bytes, count: int) -> list[Any] | None:
    """Numbers between commas, or None if it is another number of them, or something else is among them.

    Read as a list in JSON, which takes a fifth of the time of each alone.
    """
    try:
        values: list[Any] = orjson.loads(b"[" + text + b"]" if isinstance(text, bytes) else f"[{text}]")
    except orjson.JSONDecodeError:
        return None
    return values if len(values) == count and set(map(type, values)) <= NUMBERS else None


def _runs(places: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each run of neighbours."""
    runs: list[tuple[int, int]] = []
    for place in places:
        if runs and runs[-1][1] == place - 1:
            runs[-1] = (runs[-1][0], place)
        else:
            runs.append((place, place))
    return runs
