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
    """The first rows of a split, and below them copies in which inputs are missing that may be.

    Of these one for each such input, one more for each that has several values, and one without all of them.
    count: of the first rows. gaps: by the row of a copy.
    """

    def __init__(self, split: Split, count: int, inputs: Sequence[InputSpec] = ()) -> None:
        self.split = split
        self.count = min(count, len(split))
        self._inputs = split.inputs
        nullable = [spec for spec in inputs if spec.nullable]
        gaps = [Gap((spec.name,), False, repr(spec.name)) for spec in nullable]
        gaps += [Gap((spec.name,), True, f"a value of {spec.name!r}") for spec in nullable if spec.shape]
        if len(nullable) > 1:
            gaps.append(Gap(tuple(spec.name for spec in nullable), False, "every input that may be"))
        self.gaps = dict(enumerate(gaps, start=self.count))

    @property
    def with_gaps(self) -> NDArray[np.int64]:
        """Indices of the copies."""
        return np.array(list(self.gaps), np.int64)

    def __len__(self) -> int:
        return self.count + len(self.gaps)

    def take(self, indices: NDArray[np.int64]) -> tuple[dict[str, NDArray[Any]], Any]:
        """See Split."""
        _, truth = self.split.take(indices % self.count)
        return {name: self.column(name, indices) for name in self._inputs}, truth

    def column(self, name: str, indices: NDArray[np.int64] | None = None) -> NDArray[Any]:
        """See Split."""
        indices = np.arange(len(self)) if indices is None else indices
        column = self.split.column(name, indices % self.count)
        found = [(at, self.gaps[row]) for at, row in enumerate(indices.tolist()) if row in self.gaps]
        gaps = [(at, gap.first_value) for at, gap in found if name in gap.inputs]
        if gaps:
            column = np.array(column)
        for at, first_value in gaps:
            column[(at, *(0,) * (column.ndim - 1)) if first_value else at] = np.nan
        return column
