"""Parquet: batches of rows with the values that JSON has. A column of another type is refused by its name.

The only module that imports PyArrow, which takes 0.2 s: import it where a file of Parquet is read.
"""

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlplatform.data.batches import EXACT, MISSING, Problem, Record
from mlplatform.data.checking import RecordChecker, shortened
from mlplatform.data.columns import Array
from mlplatform.data.errors import BrokenFileError
from mlplatform.data.headers import column_faults

# A batch holds rows of about so many bytes, as they are in memory, and at most so many.
BATCH_BYTES = 1 << 20
BATCH_ROWS = 10_000
# What of a column is read at once: a file's row groups may be larger than memory.
BUFFER_BYTES = 1 << 20

# Types of Arrow that JSON has no value for, and what would do instead.
REFUSED = (
    (pa.types.is_decimal, "cast it to double, or write it as text"),
    (pa.types.is_temporal, "write it as text in ISO 8601, or as a number"),
    (pa.types.is_struct, "give each of its fields a column of its own, or write JSON lines"),
    (pa.types.is_map, "write JSON lines"),
)
READ = (
    pa.types.is_null,
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
)
LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
BINARY = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)


class ParquetFile:
    """A file of Parquet. Raises BrokenFileError if it is none, or has columns that no record can have.

    names: of its columns, in order.
    """

    def __init__(self, path: Path, checker: RecordChecker) -> None:
        try:
            self._file = pq.ParquetFile(
                path, buffer_size=BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True
            )
            schema: pa.Schema = self._file.schema_arrow
        except (pa.ArrowException, OSError) as error:
            raise BrokenFileError(f"is not readable as Parquet: {_first_line(error)}") from None
        self.names: tuple[str, ...] = tuple(schema.names)
        self._checker = checker
        faults = [*column_faults(self.names, checker), *filter(None, (_fault(f, checker) for f in schema))]
        if faults:
            raise BrokenFileError(" and ".join(faults))

    def batches(self) -> Iterator["ParquetBatch"]:
        """All rows in order, numbered from 1. Raises BrokenFileError where the file is damaged."""
        row = 1
        try:
            for batch in self._file.iter_batches(self._batch_rows(), use_threads=False):
                # Text that is not UTF-8, and places outside of a column.
                batch.validate(full=True)
                yield ParquetBatch(row, batch, self._checker)
                row += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise BrokenFileError(f"is damaged after row {row - 1}: {_first_line(error)}") from None

    def _batch_rows(self) -> int:
        about = self._file.metadata
        size = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
        return int(min(BATCH_ROWS, max(1, BATCH_BYTES * about.num_rows // max(1, size))))


class ParquetBatch:
    """Rows of a file of Parquet; see `Batch`. row: the first of them, from 1.

    A row with a float that is no number is a problem. A null is absent where the column may not be null, as an empty
    cell of a table is.
    """

    def __init__(self, row: int, batch: pa.RecordBatch, checker: RecordChecker) -> None:
        self.problems: list[Problem] = []
        self._checker = checker
        self._columns: dict[str, pa.Array] = {
            name: column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        }
        wrong = np.zeros(batch.num_rows, bool)
        for name, column in self._columns.items():
            if (odd := _no_numbers(column)) is not None:
                new = np.flatnonzero(odd & ~wrong).tolist()
                self.problems += [Problem(row + i, f"{name}: holds NaN or infinity; null may stand there") for i in new]
                wrong |= odd
        self.rows: Sequence[int] = range(row, row + batch.num_rows)
        if wrong.any():
            self.rows = (np.flatnonzero(~wrong) + row).tolist()
            chosen = pa.array(~wrong)
            self._columns = {name: column.filter(chosen) for name, column in self._columns.items()}
        self._values: dict[str, Sequence[Any]] = {}

    def record(self, i: int) -> dict[str, Any]:
        """See `Batch`."""
        values = {name: self.column(name)[i] for name in self._columns}
        return {name: value for name, value in values.items() if value is not MISSING}

    def column(self, name: str) -> Sequence[Any]:
        """See `Batch`."""
        if name not in self._columns:
            return [MISSING] * len(self.rows)
        if name not in self._values:
            column = self._columns[name]
            values = column.to_pylist()
            if _holds_bytes(column.type):
                values = [_in_base64(value) for value in values]
            if column.null_count and not self._checker.may_be_null(name):
                values = [MISSING if value is None else value for value in values]
            self._values[name] = values
        return self._values[name]

    def others(self, known: frozenset[str]) -> Sequence[Record] | None:
        """See `Batch`."""
        names = [name for name in self._columns if name not in known]
        if not names:
            return None
        rows = zip(*map(self.column, names), strict=True)
        return [{n: value for n, value in zip(names, row, strict=True) if value is not MISSING} for row in rows]

    def numbers(self, name: str, shape: tuple[int, ...] = ()) -> Array | None:
        """See `Batch`."""
        column = self._columns.get(name)
        for length in shape:
            if column is None or column.null_count or not _is(column.type, LISTS):
                return None
            if not pc.all(pc.equal(pc.list_value_length(column), length)).as_py():
                return None
            column = column.flatten()
        if column is None or column.null_count or not _is_number(column.type):
            return None
        array = column.to_numpy(zero_copy_only=False)
        if not (np.abs(array) < EXACT).all():
            return None
        return np.asarray(array, np.float64).reshape(len(self.rows), *shape)


def _fault(field: pa.Field, checker: RecordChecker) -> str:
    """Why a column cannot be read, as a clause; empty if it can."""
    kind, depth = _leaf(field.type)
    instead = next((instead for is_such, instead in REFUSED if is_such(kind)), "")
    if instead or not _is(kind, READ):
        told = shortened(str(field.type))
        return f"has {field.name!r} as {told}, which JSON has no value for: {instead or 'write JSON lines'}"
    if _is(kind, BINARY) and not checker.holds_bytes(field.name, depth):
        return f"has {field.name!r} as bytes, which a record cannot hold without contentEncoding in its schema"
    return ""


def _leaf(kind: pa.DataType) -> tuple[pa.DataType, int]:
    """The type of what a column holds, or its lists do, and how deep these are."""
    depth = 0
    while True:
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        elif _is(kind, LISTS):
            kind, depth = kind.value_type, depth + 1
        else:
            return kind, depth


def _is(kind: pa.DataType, kinds: Sequence[Any]) -> bool:
    return any(is_such(kind) for is_such in kinds)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _holds_bytes(kind: pa.DataType) -> bool:
    return _is(_leaf(kind)[0], BINARY)


def _in_base64(value: Any) -> Any:
    """Bytes as text in base64, also within lists."""
    if isinstance(value, list):
        return [_in_base64(inner) for inner in value]
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _no_numbers(column: pa.Array) -> NDArray[np.bool_] | None:
    """(n,): which rows hold a float that is NaN or infinite; None if none does."""
    if pa.types.is_floating(column.type):
        odd = ~np.isfinite(column.to_numpy(zero_copy_only=False))
        if column.null_count:
            odd &= column.is_valid().to_numpy(zero_copy_only=False)
        return odd if odd.any() else None
    if not _is(column.type, LISTS) or (inner := _no_numbers(column.flatten())) is None:
        return None
    odd = np.zeros(len(column), bool)
    odd[pc.list_parent_indices(column).to_numpy()[inner]] = True
    return odd


def _first_line(error: Exception) -> str:
    return shortened(str(error).strip().partition("\n")[0])
