"""Which examples look alike: 64 bits that are the same for those with nearly the same inputs.

Numbers are compared in steps of about a twentieth of their deviation, where an example has enough of them to tell;
texts by their letters and digits. Files, lists of any length, and what is too short look alike only if they are the
same.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlplatform.data.columns import Array, Column, Columns, Texts, numbers
from mlplatform.data.dataset import InputSpec
from mlplatform.data.writing import hash_inputs

# Values of an input, or inputs, below which two examples may look alike by chance, and letters of a text likewise.
ALIKE_VALUES = 8
ALIKE_LETTERS = 20
# Shares of a deviation within which two values are about the same.
ALIKE_STEP = 0.05
# In place of the steps of a value that is missing: no value has so few.
MISSING_STEP = -(2.0**62)


class Likeness:
    """Says what examples look like, once all were added, in any order. inputs: what they consist of."""

    def __init__(self, inputs: Sequence[InputSpec]) -> None:
        self._inputs = inputs
        self._spreads = {spec.name: _Spread(len(spec.sizes) == 1) for spec in inputs if _in_steps(spec, len(inputs))}

    @property
    def needs_figures(self) -> bool:
        """Whether examples have to be added: whether any input is compared in steps."""
        return bool(self._spreads)

    def add(self, columns: Columns) -> None:
        """Count examples by the names of their inputs."""
        for name, spread in self._spreads.items():
            spread.add(numbers(columns, name))

    def keys(self, columns: Columns) -> NDArray[np.uint64]:
        """(n,): the same for examples that look alike."""
        return hash_inputs({spec.name: self._blurred(columns[spec.name], spec) for spec in self._inputs}, self._inputs)

    def _blurred(self, values: Column, spec: InputSpec) -> Column:
        if isinstance(values, Texts):
            if spec.media_type or spec.length:
                return values
            return Texts.of([_plain(text) for text in values.array().reshape(-1).tolist()], spec.sizes)
        if spec.name not in self._spreads:
            return values
        steps = np.round(values.astype(np.float64) / self._spreads[spec.name].step())
        return np.where(np.isnan(steps), MISSING_STEP, np.nan_to_num(steps)).astype(np.int64)


class _Spread:
    """Deviation of values, of each place of a row by itself or of all together."""

    def __init__(self, by_place: bool) -> None:
        self._by_place = by_place
        self._count: Array = np.zeros(1)
        self._mean: Array = np.zeros(1)
        self._squares: Array = np.zeros(1)

    def add(self, values: Array) -> None:
        """values: (n, *shape)."""
        wide = values.reshape(len(values) if self._by_place else values.size, -1).astype(np.float64)
        there = np.isfinite(wide)
        count = np.count_nonzero(there, axis=0)
        known = np.where(there, wide, 0.0)
        mean = known.sum(axis=0) / np.maximum(count, 1)
        squares = (np.square(known - mean) * there).sum(axis=0)
        # As Chan, Golub and LeVeque join two samples: sums of squares lose the digits of values far from 0.
        total = np.maximum(self._count + count, 1)
        distance = mean - self._mean
        self._squares = self._squares + squares + np.square(distance) * self._count * count / total
        self._mean = self._mean + distance * count / total
        self._count = self._count + count

    def step(self) -> Array:
        """A power of two, so neither the last digits of a sum nor a few more examples change it."""
        deviation = np.sqrt(self._squares / np.maximum(self._count, 1))
        return np.asarray(2.0 ** np.round(np.log2(np.where(deviation > 0, deviation, 1.0) * ALIKE_STEP)))


def _in_steps(spec: InputSpec, inputs: int) -> bool:
    if spec.dtype == "string" or spec.length:
        return False
    return max(int(np.prod(spec.sizes, dtype=np.int64)), inputs) >= ALIKE_VALUES


def _plain(text: bytes) -> bytes:
    plain = re.sub(r"[\W_]+", " ", text.decode().lower()).strip()
    return plain.encode() if len(plain) >= ALIKE_LETTERS else text
