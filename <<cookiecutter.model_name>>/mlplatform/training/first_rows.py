"""The rows that the preflight tries a network with."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlplatform.data.dataset import InputSpec, Split


class Gap(NamedTuple):
    """What is missing in a row: the whole of these inputs, or only the first value of one. said: how to name it."""

    inputs: tuple[str, ...]
    first_value: bool
    said: str


class FirstRows(Split):
    """The first rows of a split, and below them copies in which inputs that may be missing are, or have other lengths.

    Of the former one for each such input, one more for each that has several values, and one without all of them. Of
    the latter one in which lists of any length are as short, and one in which they are as long as they may be.
    count: of the first rows. gaps: by the row of a copy. longest: whether they are, by the row of a copy.
    """

    def __init__(self, split: Split, count: int, inputs: Sequence[InputSpec] = ()) -> None:
        self.split = split
        self.count = min(count, len(split))
        self._inputs = split.inputs
        self.lists = split.lists
        optional = [spec for spec in inputs if spec.optional]
        self._fill = {spec.name: spec.gap.encode() if isinstance(spec.gap, str) else spec.gap for spec in optional}
        whole = [spec for spec in optional if not spec.length]
        gaps = [Gap((spec.name,), False, repr(spec.name)) for spec in whole]
        gaps += [Gap((spec.name,), True, f"a value of {spec.name!r}") for spec in optional if spec.shape]
        if len(whole) > 1:
            gaps.append(Gap(tuple(spec.name for spec in whole), False, "every input that may be"))
        self.gaps = dict(enumerate(gaps, start=self.count))
        vary = any(spec.length for spec in inputs)
        self.longest = dict(enumerate((False, True) if vary else (), start=self.count + len(gaps)))

    @property
    def with_gaps(self) -> NDArray[np.int64]:
        """Indices of the copies in which inputs are missing."""
        return np.array(list(self.gaps), np.int64)

    @property
    def copies(self) -> NDArray[np.int64]:
        """Indices of the copies."""
        return np.arange(self.count, len(self))

    def __len__(self) -> int:
        return self.count + len(self.gaps) + len(self.longest)

    def item_counts(self) -> NDArray[np.int64]:
        """See Split."""
        indices = np.arange(len(self))
        counts = np.zeros(len(self), np.int64)
        for name in self.lists:
            counts += np.fromiter(map(len, self.rows(name, indices)), np.int64)
        return counts

    def take(self, indices: NDArray[np.int64]) -> tuple[dict[str, NDArray[Any]], Any]:
        """See Split."""
        _, truth = self.split.take(indices % self.count)
        return {name: self.column(name, indices) for name in self._inputs}, truth

    def column(self, name: str, indices: NDArray[np.int64] | None = None) -> NDArray[Any]:
        """See Split."""
        indices = np.arange(len(self)) if indices is None else indices
        if name in self.lists:
            return self.lists[name].filled_up(self.rows(name, indices))
        column = self.split.column(name, indices % self.count)
        found = [(at, self.gaps[row]) for at, row in enumerate(indices.tolist()) if row in self.gaps]
        gaps = [(at, gap.first_value) for at, gap in found if name in gap.inputs]
        if gaps:
            column = np.array(column)
        for at, first_value in gaps:
            column[(at, *(0,) * (column.ndim - 1)) if first_value else at] = self._fill[name]
        return column

    def rows(self, name: str, indices: NDArray[np.int64]) -> list[NDArray[Any]]:
        """See Split."""
        spec = self.lists.get(name)
        if spec is None or spec.length is None:
            return list(self.column(name, indices))
        rows = self.split.rows(name, indices % self.count)
        for at, row in enumerate(indices.tolist()):
            gap = self.gaps.get(row)
            if row in self.longest:
                # Its own items again and again: others may be values that the model refuses.
                wanted = spec.length.most if self.longest[row] else spec.length.least
                rows[at] = np.resize(rows[at], (wanted, *spec.sizes))
            elif gap is not None and name in gap.inputs and len(rows[at]):
                rows[at] = np.array(rows[at])
                rows[at][(0,) * rows[at].ndim] = self._fill[name]
        return rows
