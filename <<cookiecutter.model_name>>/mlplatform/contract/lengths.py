"""Lists of any length: how many items they may have, and how rows of several lengths become one array.

A model is given arrays, so the shorter rows of a batch are filled up behind their items. What fills them up, the
padding, is the team's to name: a model that masks it, as keras.layers.Masking does, predicts the same of a row
whatever is beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Length:
    """How many items a list may have, from `least` to `most`. padding: the value of every number behind them."""

    least: int
    most: int
    padding: float = 0

    def to_json(self) -> dict[str, Any]:
        """As manifests hold it."""
        return asdict(self)

    @classmethod
    def of_json(cls, described: Mapping[str, Any] | None) -> "Length | None":
        """From what `to_json` gave; None of nothing."""
        return None if described is None else cls(**described)

    def joined(self, arrays: Sequence[Array]) -> Array:
        """Rows (rows, length, ...) of several lengths as one array, as long as the longest and at least one item."""
        longest = max(1, *(array.shape[1] for array in arrays))
        if len(arrays) == 1 and arrays[0].shape[1] == longest:
            return arrays[0]
        rows = sum(map(len, arrays))
        whole = np.full((rows, longest, *arrays[0].shape[2:]), self.padding, arrays[0].dtype)
        start = 0
        for array in arrays:
            whole[start : start + len(array), : array.shape[1]] = array
            start += len(array)
        return whole

    def held(self, array: Array) -> NDArray[np.bool_]:
        """(rows, length): the items of rows (rows, length, ...) that are not padding.

        An item that is all padding at the end of a row counts as such, for a model cannot tell it apart.
        """
        other = (array != self.padding).reshape(*array.shape[:2], -1).any(axis=2)
        return np.flip(np.logical_or.accumulate(np.flip(other, 1), axis=1), 1)
