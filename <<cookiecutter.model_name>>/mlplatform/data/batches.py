"""Batches: some thousand rows of a file, parsed together and not checked yet."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlplatform.data.columns import Array

Record = Mapping[str, Any]


class Missing:
    """Stands for a property that a record lacks."""


MISSING = Missing()


@dataclass(frozen=True)
class Problem:
    """A row that is no example, and why: row is its first line in the file, from 1."""

    row: int
    reason: str


@dataclass(frozen=True)
class Batch:
    """Rows of a file. rows: the first line of each, from 1; problems: rows between them that are no records.

    record: one of the records by its index; column: a property of all records by its name, MISSING where it is.
    others: the properties of each record that are none of these names, or None if no record has any.
    numbers: a property as float64 (n,) where every record has a number that it holds exactly, if that is known.
    """

    rows: Sequence[int]
    record: Callable[[int], Any]
    column: Callable[[str], Sequence[Any]]
    others: Callable[[frozenset[str]], Sequence[Record] | None]
    problems: list[Problem] = field(default_factory=list)
    numbers: Callable[[str], Array | None] = lambda name: None

    def __len__(self) -> int:
        return len(self.rows)


def batch_of_records(rows: Sequence[int], records: Sequence[Any], problems: list[Problem]) -> Batch:
    """A batch of JSON values, which need be no objects."""

    def column(name: str) -> Sequence[Any]:
        try:
            return [record[name] for record in records]
        except (LookupError, TypeError):
            return [record.get(name, MISSING) if isinstance(record, dict) else MISSING for record in records]

    def others(known: frozenset[str]) -> Sequence[Record] | None:
        objects = [record if isinstance(record, dict) else {} for record in records]
        if all(map(known.issuperset, objects)):
            return None
        return [{name: value for name, value in record.items() if name not in known} for record in objects]

    return Batch(rows, records.__getitem__, column, others, problems)
