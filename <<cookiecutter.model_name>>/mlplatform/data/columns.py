"""Columns: the values of many examples under one name. Text is bytes and ends: a long one costs its own length only."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
ENDS = ".ends"
BYTES = ".bytes"
# Mean bytes of texts up to which their bytes are taken one by one, which costs more for each and less for a text.
SHORT_TEXT = 32
# Texts that follow each other in a run, on the average, from which their bytes are taken run by run.
LONG_RUN = 4


class Texts:
    """Texts of n examples, one or several each; or lists of any length, see lists.py.

    data: their bytes, one after the other.

    ends: (n, *shape) int64, where each text ends within `data`; it starts where the one before ends.
    """

    def __init__(self, data: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self.data = data
        self.ends = ends

    @classmethod
    def of(cls, texts: Sequence[bytes], shape: tuple[int, ...] = ()) -> "Texts":
        """From texts in order; `shape` is that of one example."""
        data = np.frombuffer(b"".join(texts), np.uint8)
        ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
        return cls(data, ends.reshape(-1, *shape))

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def nbytes(self) -> int:
        """Bytes of the texts and their ends."""
        return int(self.data.nbytes + self.ends.nbytes)

    def starts(self) -> NDArray[np.int64]:
        """(n, *shape) int64: where each text starts."""
        flat = self.ends.reshape(-1)
        return np.concatenate([np.zeros(min(1, len(flat)), np.int64), flat[:-1]]).reshape(self.ends.shape)

    def take(self, indices: Array) -> "Texts":
        """The texts of the examples with these indices, or of those that a mask chooses."""
        starts, ends = self._spans(self._rows(indices))
        lengths = ends - starts
        taken = np.cumsum(lengths)
        # Texts that stand one after the other are taken as one.
        breaks = np.flatnonzero(starts[1:] != ends[:-1]) + 1
        if len(breaks) < len(starts) / LONG_RUN:
            starts, ends = starts[np.append(0, breaks)], ends[np.append(breaks, len(ends)) - 1]
            data = self._joined(starts, ends)
        elif len(taken) and taken[-1] < SHORT_TEXT * len(taken):
            # Where each byte comes from: its place within all taken, moved by as much as its text is.
            data = self.data[np.arange(taken[-1]) + np.repeat(ends - taken, lengths)]
        else:
            data = self._joined(starts, ends)
        return Texts(data, taken.reshape(-1, *self.ends.shape[1:]))

    def _joined(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The bytes of these spans, one after the other."""
        content = self.data.data
        spans = zip(starts.tolist(), ends.tolist(), strict=True)
        return np.frombuffer(b"".join([content[start:end] for start, end in spans]), np.uint8)

    def sizes(self, indices: Array) -> NDArray[np.int64]:
        """Bytes of each text of these examples, all in order."""
        starts, ends = self._spans(self._rows(indices))
        return ends - starts

    def part(self, first: int, last: int) -> "Texts":
        """The texts of the examples from `first` to before `last`."""
        before = int(self.ends[first - 1].reshape(-1)[-1]) if first else 0
        ends = np.asarray(self.ends[first:last], np.int64) - before
        return Texts(self.data[before : before + int(ends.reshape(-1)[-1]) if ends.size else before], ends)

    def array(self, indices: Array | None = None) -> Array:
        """Texts as an array (n, *shape) of bytes objects; NumPy's own text type would cut zeros off their ends."""
        starts, ends = self._spans(np.arange(len(self)) if indices is None else self._rows(indices))
        spans = zip(starts.tolist(), ends.tolist(), strict=True)
        array = np.empty(len(starts), object)
        if indices is None:
            whole = self.data.tobytes()
            array[:] = [whole[start:end] for start, end in spans]
        else:
            # What is on disk is not read as a whole for some of it.
            content = self.data.data
            array[:] = [bytes(content[start:end]) for start, end in spans]
        return array.reshape(-1, *self.ends.shape[1:])

    def _rows(self, indices: Array) -> NDArray[np.int64]:
        return np.flatnonzero(indices) if indices.dtype == bool else indices.astype(np.int64)

    def _spans(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the texts of these examples start and end, all in order."""
        size = int(np.prod(self.ends.shape[1:], dtype=np.int64))
        numbers = rows if size == 1 else (rows[:, None] * size + np.arange(size)).reshape(-1)
        ends = self.ends.reshape(-1)
        return np.where(numbers > 0, ends[numbers - 1], 0), ends[numbers]


Column = Array | Texts
Columns = Mapping[str, Column]


def numbers(columns: Columns, name: str) -> Array:
    """A column of numbers."""
    column = columns[name]
    if isinstance(column, Texts):
        raise TypeError(f"column {name} holds texts")
    return column


def texts(columns: Columns, name: str) -> Texts:
    """A column of texts."""
    column = columns[name]
    if not isinstance(column, Texts):
        raise TypeError(f"column {name} holds numbers")
    return column


def take(columns: Columns, indices: Array) -> dict[str, Column]:
    """The rows with these indices, or that a mask chooses, of every column."""
    # A mask would be gone through for each column.
    rows = np.flatnonzero(indices) if indices.dtype == bool else indices
    return {
        name: column.take(rows) if isinstance(column, Texts) else column.take(rows, axis=0)
        for name, column in columns.items()
    }


def part(columns: Columns, first: int, last: int) -> dict[str, Column]:
    """The rows from `first` to before `last` of every column, without a copy where there are numbers."""
    return {
        name: column.part(first, last) if isinstance(column, Texts) else column[first:last]
        for name, column in columns.items()
    }


def concatenate(tables: Sequence[Columns]) -> dict[str, Column]:
    """Tables of the same columns, one below the other."""
    if len(tables) == 1:
        return dict(tables[0])
    return {name: _joined([table[name] for table in tables]) for name in tables[0]}


def _joined(columns: Sequence[Column]) -> Column:
    arrays = [column for column in columns if not isinstance(column, Texts)]
    if arrays:
        return np.concatenate(arrays)
    pieces = [column for column in columns if isinstance(column, Texts)]
    shifts = np.cumsum([0, *(len(column.data) for column in pieces[:-1])])
    ends = [column.ends + shift for column, shift in zip(pieces, shifts, strict=True)]
    return Texts(np.concatenate([column.data for column in pieces]), np.concatenate(ends))


def size(columns: Columns) -> int:
    """Bytes of all columns."""
    return sum(column.nbytes for column in columns.values())


def arrays_of(name: str, column: Column) -> dict[str, Array]:
    """A column as arrays: one, or two for texts."""
    if isinstance(column, Texts):
        return {f"{name}{BYTES}": column.data, f"{name}{ENDS}": column.ends}
    return {name: column}


def stored_arrays(name: str, column: Column) -> dict[str, Array]:
    """A column as the arrays that are stored: the ends of texts in 32 bits if there are not too many bytes for that."""
    arrays = arrays_of(name, column)
    if isinstance(column, Texts) and len(column.data) < 2**31:
        arrays[f"{name}{ENDS}"] = column.ends.astype(np.int32)
    return arrays


def columns_of(arrays: Mapping[str, Array]) -> dict[str, Column]:
    """Columns from all arrays of `arrays_of`."""
    columns: dict[str, Column] = {}
    for name, array in arrays.items():
        if name.endswith(ENDS):
            columns[name.removesuffix(ENDS)] = Texts(arrays[name.removesuffix(ENDS) + BYTES], array.astype(np.int64))
        elif not name.endswith(BYTES):
            columns[name] = array
    return columns


def save(path: Path, columns: Columns) -> None:
    """Write a table as one .npz file, not compressed."""
    arrays: dict[str, Any] = {}
    for name, column in columns.items():
        arrays |= stored_arrays(name, column)
    np.savez(path, **arrays)


def load(path: Path, names: Iterable[str] | None = None) -> dict[str, Column]:
    """A table that `save` wrote, or only the columns with these names."""
    with np.load(path) as file:
        wanted = set(file.files) if names is None else {f"{n}{end}" for n in names for end in ("", ENDS, BYTES)}
        return columns_of({name: file[name] for name in file.files if name in wanted})


def append(file: IO[bytes], columns: Columns) -> None:
    """Write a table at the end of an open file; `read_appended` needs to know the same columns.

    NumPy's own format describes each array anew, which takes longer than a small array itself.
    """
    for name, column in columns.items():
        for array in arrays_of(name, column).values():
            file.write(len(array).to_bytes(8))
            file.write(np.ascontiguousarray(array).reshape(-1).data)


def read_appended(file: IO[bytes], like: Columns) -> dict[str, Column]:
    """All tables of an open file that `append` wrote, as one. like: any table of the same columns."""
    forms = {
        part: (array.dtype, array.shape[1:])
        for name, column in like.items()
        for part, array in arrays_of(name, column).items()
    }
    tables = []
    while head := file.read(8):
        arrays = {}
        for name, (dtype, shape) in forms.items():
            rows = int.from_bytes(head or file.read(8))
            content = file.read(rows * dtype.itemsize * int(np.prod(shape, dtype=np.int64)))
            arrays[name] = np.frombuffer(content, dtype).reshape(rows, *shape)
            head = b""
        tables.append(columns_of(arrays))
    return concatenate(tables)
