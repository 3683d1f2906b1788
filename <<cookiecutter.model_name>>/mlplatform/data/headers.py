"""The header of a table in text: where it stands, what separates its columns, and whether these fit the record."""

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from mlplatform.data.checking import RecordChecker, shortened
from mlplatform.data.errors import BrokenFileError

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True)
class Header:
    """names of the columns in order; separator: between them; row: its line, from 1; skipped: lines that precede it."""

    names: tuple[str, ...]
    separator: str
    row: int
    skipped: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"columns {', '.join(self.names)}"
        if self.separator != ",":
            text += f", separated by {SEPARATORS.get(self.separator, repr(self.separator))}"
        if self.skipped:
            text += f", below {len(self.skipped)} lines that are no records" if len(self.skipped) > 1 else ""
            text += f", below a line that is no record: {self.skipped[0]!r}" if len(self.skipped) == 1 else ""
        return text


def read_header(lines: Iterator[str], checker: RecordChecker, separator: str = "") -> Header | None:
    """Take the lines up to the header; None if there is none. separator: the one that the file's ending stands for.

    Blank lines, comments (#) and Excel's `sep=` may precede it. Without such a line, the separator that gives the most
    columns of the record is taken. Raises BrokenFileError if a column is missing, unknown, or there twice.
    """
    skipped: list[str] = []
    for row, line in enumerate(lines, start=1):
        text = line.rstrip("\r\n")
        if text.lower().startswith("sep=") and len(text) == len("sep=") + 1:
            separator = text[-1]
            skipped.append(text)
        elif not text.strip() or (text.startswith("#") and not _known(text, checker, separator)):
            skipped.append(shortened(text))
        else:
            return _checked(text, row, separator, tuple(skipped), checker)
    return None


def _known(line: str, checker: RecordChecker, separator: str) -> bool:
    return any(name in checker.names for name in _cells(line, separator or _separator(line, checker)))


def _separator(line: str, checker: RecordChecker) -> str:
    """The separator that gives the most columns of the record; a comma if none gives more."""
    known = {mark: sum(name in checker.names for name in _cells(line, mark)) for mark in SEPARATORS}
    return max(known, key=lambda mark: (known[mark], len(_cells(line, mark)) if known[mark] else mark == ","))


def _cells(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator, strict=True), [])
    except csv.Error:
        return []


def _checked(line: str, row: int, separator: str, skipped: tuple[str, ...], checker: RecordChecker) -> Header:
    separator = separator or _separator(line, checker)
    names = tuple(_cells(line, separator))
    faults = column_faults(names, checker) if names else ["cannot be read as a table's header"]
    if faults:
        raise BrokenFileError(f"its header in row {row}, {shortened(line)!r}, {' and '.join(faults)}")
    return Header(names, separator, row, skipped)


def column_faults(names: tuple[str, ...], checker: RecordChecker) -> list[str]:
    """What is wrong with the columns of a table, as clauses."""
    faults = []
    twice = [name for name, count in Counter(names).items() if count > 1]
    unknown = [name for name in names if name not in checker.names] if checker.closed else []
    if twice:
        faults.append(f"names {_listed(twice)} twice")
    if missing := checker.missing(frozenset(names)):
        faults.append(f"lacks {_listed(missing)}")
    if unknown:
        faults.append(f"has {_listed(unknown)}, which the record has not")
    return faults


def _listed(names: list[str]) -> str:
    return ", ".join(repr(name) if name else "a column without a name" for name in names)
