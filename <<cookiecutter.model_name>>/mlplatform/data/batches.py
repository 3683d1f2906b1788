"""Batches: some thousand rows of a file, parsed together and not checked yet."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Protocol

import numpy as np

from mlplatform.data.columns import Array

# float64 holds every whole number below this one.
EXACT = 2.0**53

Record = Mapping[str, Any]


class Missing:
    """Stands for a property that a record lacks."""


MISSING = Missing()


@dataclass(frozen=True)
class Problem:
    """A row that is no example, and why: row is its first line in the file, or its number in Parquet, from 1."""

    row: int
    reason: str


class Batch(Protocol):
    """Rows of a file; `problems`: rows between them that are no records."""

    problems: list[Problem]

    @property
    def rows(self) -> Sequence[int]:
        """The first line of each row, or its number in Parquet, from 1."""

    def record(self, i: int) -> Any:
        """One of the records by its index."""

    def column(self, name: str) -> Sequence[Any]:
        """A property of all records, MISSING where it is."""

    def others(self, known: frozenset[str]) -> Sequence[Record] | None:
        """The properties of each record that are none of these, or None if no record has any."""

    def numbers(self, name: str, shape: tuple[int, ...] = ()) -> Array | None:
        """A property as float64 (n, *shape) if every record has numbers in lists of that shape, or one number, that
        float64 holds exactly, and that is known.
        """


class JsonBatch:
    """A batch of JSON values, which need be no objects. names: properties that will be asked for.

    has_booleans: whether `true` or `false` may stand in one of them.
    """

    def __init__(
        self,
        rows: Sequence[int],
        records: Sequence[Any],
        problems: list[Problem],
        names: Sequence[str],
        has_booleans: bool,
    ) -> None:
        self.rows = rows
        self.problems = problems
        self._records = records
        self._has_booleans = has_booleans
        self._columns: dict[str, Sequence[Any]] = {}
        # Most sources have an id in every record, or in none.
        for wanted in (names, [name for name in names if name != "id"]):
            if len(wanted) < 2:
                continue
            # All properties of a record while it is near: a column at a time takes twice as long.
            with suppress(LookupError, TypeError, ValueError):
                self._columns = dict(zip(wanted, zip(*map(itemgetter(*wanted), records), strict=True), strict=True))
                break

    def record(self, i: int) -> Any:
        """See `Batch`."""
        return self._records[i]

    def column(self, name: str) -> Sequence[Any]:
        """See `Batch`."""
        if name in self._columns:
            return self._columns[name]
        return [record.get(name, MISSING) if isinstance(record, dict) else MISSING for record in self._records]

    def others(self, known: frozenset[str]) -> Sequence[Record] | None:
        """See `Batch`."""
        if self._columns and set(map(len, self._records)) == {len(known & self._columns.keys())}:
            return None
        objects = [record if isinstance(record, dict) else {} for record in self._records]
        if all(map(known.issuperset, objects)):
            return None
        return [{name: value for name, value in record.items() if name not in known} for record in objects]

    def numbers(self, name: str, shape: tuple[int, ...] = ()) -> Array | None:
        """See `Batch`."""
        # NumPy takes booleans among numbers for numbers.
        if shape or self._has_booleans or name not in self._columns:
            return None
        try:
            array = np.asarray(self._columns[name])
        except (ValueError, OverflowError):
            return None
        if array.ndim > 1 or array.dtype.kind not in "if" or not (np.abs(array) < EXACT).all():
            return None
        return array.astype(np.float64, copy=False)
