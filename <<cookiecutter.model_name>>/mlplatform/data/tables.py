"""Tables in text: blocks of lines become batches of records."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from mlplatform.data.batches import EXACT, MISSING, Problem, Record
from mlplatform.data.checking import RecordChecker
from mlplatform.data.columns import Array
from mlplatform.data.headers import Header
from mlplatform.data.plain_checks import NUMBERS

NEW_LINE = ord("\n")
NUMBER_CHARACTERS = b"0123456789+-.eE,"


class Table(ABC):
    """A batch of rows that are cells of text; see `Batch`."""

    def __init__(self, header: Header, checker: RecordChecker) -> None:
        self.rows: Sequence[int] = []
        self.problems: list[Problem] = []
        self.header = header
        self._checker = checker
        self._places = {name: place for place, name in enumerate(header.names)}

    @abstractmethod
    def cells_below(self, place: int) -> Sequence[str]:
        """The cells of a column."""

    @abstractmethod
    def cells_of(self, i: int) -> Sequence[str]:
        """The cells of a row by its index."""

    def record(self, i: int) -> dict[str, Any]:
        """Empty cells are null where the column may be null, and absent elsewhere."""
        checker = self._checker
        return {
            name: checker.cell_value(name, cell)
            for name, cell in zip(self.header.names, self.cells_of(i), strict=True)
            if cell or checker.may_be_null(name)
        }

    def column(self, name: str) -> Sequence[Any]:
        """See `Batch`."""
        if name not in self._places:
            return [MISSING] * len(self.rows)
        cells = self.cells_below(self._places[name])
        if self._checker.holds_numbers(name) and name != "id" and (values := _json_numbers_or_none(cells)):
            return values if self._checker.may_be_null(name) else [MISSING if v is None else v for v in values]
        return self._values(name, cells)

    def others(self, known: frozenset[str]) -> Sequence[Record] | None:
        """See `Batch`."""
        names = [name for name in self.header.names if name not in known]
        if not names:
            return None
        rows = zip(*(self._values(name, self.cells_below(self._places[name])) for name in names), strict=True)
        return [{n: value for n, value in zip(names, row, strict=True) if value is not MISSING} for row in rows]

    def numbers(self, name: str, shape: tuple[int, ...] = ()) -> Array | None:
        """See `Batch`."""
        return None

    def _values(self, name: str, cells: Sequence[str]) -> Sequence[Any]:
        if self._checker.holds_text(name) and "" not in cells:
            return cells
        may_be_null = self._checker.may_be_null(name)
        return [self._checker.cell_value(name, cell) if cell or may_be_null else MISSING for cell in cells]


class SplitRows(Table):
    """Rows that csv.reader has split. One without cells is a blank line; others need as many as the header has."""

    def __init__(self, header: Header, checker: RecordChecker) -> None:
        super().__init__(header, checker)
        self.rows: list[int] = []
        self._cells: list[list[str]] = []

    def add(self, row: int, cells: list[str]) -> None:
        """A row, and its first line, from 1."""
        width = len(self.header.names)
        if len(cells) == width:
            self.rows.append(row)
            self._cells.append(cells)
        elif cells:
            self.problems.append(Problem(row, f"has {len(cells)} cells, the header has {width}"))

    def cells_below(self, place: int) -> Sequence[str]:
        """See `Table`."""
        return self._columns[place]

    def cells_of(self, i: int) -> Sequence[str]:
        """See `Table`."""
        return self._cells[i]

    @cached_property
    def _columns(self) -> list[tuple[str, ...]]:
        return list(zip(*self._cells, strict=True)) or [()] * len(self.header.names)


class PlainLines(Table):
    """Lines without quotes, in which a separator always ends a cell. row: the first line, from 1.

    starts, ends: (rows, columns) int64, where each cell is in `content`, the bytes of `text`.
    """

    def __init__(
        self, header: Header, checker: RecordChecker, row: int, text: str, content: bytes, starts: Array, ends: Array
    ) -> None:
        super().__init__(header, checker)
        self.rows = range(row, row + len(starts))
        self._text = text if len(text) == len(content) else ""
        self._content = content
        self._starts = starts
        self._ends = ends
        places = [p for p, name in enumerate(header.names) if checker.holds_numbers(name) and name != "id"]
        self._arrays: dict[str, Array] = {}
        for first, last in _runs(places):
            if (array := self._numbers_below(first, last)) is not None:
                self._arrays |= dict(zip(header.names[first : last + 1], array.T, strict=True))

    def cells_below(self, place: int) -> Sequence[str]:
        """See `Table`."""
        spans = zip(self._starts[:, place].tolist(), self._ends[:, place].tolist(), strict=True)
        if text := self._text:
            return [text[start:end] for start, end in spans]
        return [self._content[start:end].decode() for start, end in spans]

    def cells_of(self, i: int) -> Sequence[str]:
        """See `Table`."""
        spans = zip(self._starts[i].tolist(), self._ends[i].tolist(), strict=True)
        return [self._content[start:end].decode() for start, end in spans]

    def numbers(self, name: str, shape: tuple[int, ...] = ()) -> Array | None:
        """See `Table`."""
        return None if shape else self._arrays.get(name)

    def _numbers_below(self, first: int, last: int) -> Array | None:
        """The cells of neighbouring columns as float64 (rows, columns), or None if one of them is no such number."""
        spans = zip(self._starts[:, first].tolist(), self._ends[:, last].tolist(), strict=True)
        text = b",".join([self._content[start:end] for start, end in spans])
        separator, width = self.header.separator.encode(), last + 1 - first
        values = json_numbers(text.replace(separator, b","), len(self.rows) * width)
        if values is None:
            return None
        array = np.asarray(values, np.float64)
        return array.reshape(-1, width) if np.abs(array).max() < EXACT else None


def plain_lines(header: Header, checker: RecordChecker, row: int, text: str) -> PlainLines | None:
    """Lines of a table, or None if they hold quotes, ends of lines of old Macs, or another number of cells."""
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    width, separator = len(header.names), header.separator
    if width < 2 or '"' in text or "\r" in text or not separator.isascii():
        return None
    if not text.endswith("\n"):
        text += "\n"
    content = text.encode()
    characters = np.frombuffer(content, np.uint8)
    line_ends = characters == NEW_LINE
    ends = np.flatnonzero(line_ends | (characters == ord(separator)))
    lines = int(np.count_nonzero(line_ends))
    if len(ends) != lines * width or not line_ends[ends[width - 1 :: width]].all():
        return None
    starts: NDArray[np.int64] = np.concatenate([[0], ends[:-1] + 1])
    at = starts.reshape(lines, width), ends.reshape(lines, width)
    return PlainLines(header, checker, row, text, content, *at)


def _json_numbers_or_none(cells: Sequence[str]) -> list[Any] | None:
    """Numbers, None where a cell is empty, or None if something else is among them."""
    if "" not in cells:
        return json_numbers(",".join(cells), len(cells))
    # In place of each empty cell a number, so that the text `null` in a cell is still none.
    numbers = json_numbers(",".join([cell or "0" for cell in cells]), len(cells))
    return numbers and [number if cell else None for number, cell in zip(numbers, cells, strict=True)]


def json_numbers(text: str | bytes, count: int) -> list[Any] | None:
    """Numbers between commas, or None if it is another number of them, or something else is among them.

    Read as a list in JSON, which takes a fifth of the time of each alone.
    """
    try:
        values: list[Any] = orjson.loads(b"[" + text + b"]" if isinstance(text, bytes) else f"[{text}]")
    except orjson.JSONDecodeError:
        return None
    if len(values) != count:
        return None
    # Nothing but numbers is made of these characters; looking at each value takes longer.
    plain = isinstance(text, bytes) and not text.translate(None, NUMBER_CHARACTERS)
    return values if plain or set(map(type, values)) <= NUMBERS else None


def _runs(places: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each run of neighbours."""
    runs: list[tuple[int, int]] = []
    for place in places:
        if runs and runs[-1][1] == place - 1:
            runs[-1] = (runs[-1][0], place)
        else:
            runs.append((place, place))
    return runs
