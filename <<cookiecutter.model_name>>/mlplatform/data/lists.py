"""Lists of any length as columns: the items of all examples one after the other, and where each list ends.

They are kept as columns.Texts, with the bytes of items in place of texts.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.data.columns import Array, Texts
from mlplatform.data.dataset import InputSpec


def packed(items: Array, lengths: NDArray[np.int64]) -> Texts:
    """A column. items: of all lists, (sum of the lengths, *shape of an item); lengths: (n,)."""
    item_bytes = items.itemsize * int(np.prod(items.shape[1:], dtype=np.int64))
    return Texts(np.ascontiguousarray(items).reshape(-1).view(np.uint8), np.cumsum(lengths) * item_bytes)


def items_of(values: Sequence[Any], spec: InputSpec) -> tuple[list[Any], NDArray[np.int64]] | None:
    """The items of lists one after the other, and the lengths (n,); None if one is no list, or too long or short."""
    if spec.length is None or set(map(type, values)) - {list}:
        return None
    lengths = np.fromiter(map(len, values), np.int64, len(values))
    if len(lengths) and not spec.length.least <= lengths.min() <= lengths.max() <= spec.length.most:
        return None
    return list(chain.from_iterable(values)), lengths
