"""Which split an example belongs to: by its id, by a group that it is part of, by time, or as the data says."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.errors import BadDataError
from mlplatform.contract.targets import Target
from mlplatform.data.columns import Array, Columns, Texts, numbers
from mlplatform.data.dataset import SPLITS
from mlplatform.store.moments import parse


@dataclass(frozen=True)
class SplitRule:
    """Shares of the examples that go to the validation and the test split, 0 to 1, and what decides; the rest is train.

    The other fields name properties of the record that are no input. group: examples with the same value are in one
    split; it may be the property that is learned, too. time: those from `test_after` on (ISO 8601, UTC if it says no
    other) are the test split. fixed: it says train, validation or test. stratified: the shares hold for each label.
    """

    validation_fraction: float
    test_fraction: float
    group: str = ""
    time: str = ""
    test_after: str = ""
    fixed: str = ""
    stratified: bool = False

    def identity(self) -> dict[str, Any]:
        """What a version's name follows from: a rule that is not stratified is named as before there were such."""
        return {name: value for name, value in asdict(self).items() if name != "stratified" or value}

    def assign(
        self, examples: Columns, bounds: NDArray[np.float64] | None = None, target: Target | None = None
    ) -> NDArray[np.int8]:
        """(n,): index into SPLITS, for columns of ExampleMaker.make. Raises BadDataError where that is not said.

        bounds: of a stratified rule, see stratifying.bounds. target: what the truths of the examples are of.
        """
        if bounds is not None:
            position, ends = numbers(examples, "high") / 2.0**64, bounds[numbers(examples, "label")]
            splits = np.where(position < ends[:, 0], SPLITS.index("test"), 0)
            inside = (position >= ends[:, 0]) & (position < ends[:, 1])
            return np.where(inside, SPLITS.index("validation"), splits).astype(np.int8)
        if self.fixed:
            return self._as_fixed(examples)
        position = numbers(examples, "high") / 2.0**64
        if self.group:
            position = np.array(
                [
                    own if value is None else _position(value)
                    for own, value in zip(position.tolist(), self._groups(examples, target), strict=True)
                ]
            )
        test = self._after(examples) if self.time else position < self.test_fraction
        validation = ~test & (position < self.validation_fraction + (0 if self.time else self.test_fraction))
        return np.where(test, SPLITS.index("test"), np.where(validation, SPLITS.index("validation"), 0)).astype(np.int8)

    def _groups(self, examples: Columns, target: Target | None) -> Sequence[Any]:
        if target is not None and self.group == target.name:
            return [target.decode(truth) for truth in numbers(examples, "label")]
        return _values(examples, self.group)

    def _as_fixed(self, examples: Columns) -> NDArray[np.int8]:
        values = _values(examples, self.fixed)
        wrong = [i for i, value in enumerate(values) if value not in SPLITS]
        if wrong:
            said = f"{self.fixed!r} is {values[wrong[0]]!r}; split_fixed takes {', '.join(SPLITS)}"
            raise BadDataError(f"example {_id(examples, wrong[0])}: {said}")
        return np.array([SPLITS.index(value) for value in values], np.int8)

    def _after(self, examples: Columns) -> Array:
        start = parse(self.test_after)
        after = np.zeros(len(numbers(examples, "high")), dtype=bool)
        for i, value in enumerate(_values(examples, self.time)):
            try:
                after[i] = parse(value) >= start
            except (TypeError, ValueError):
                said = f"{self.time!r} is {value!r}; split_time takes a date or time in ISO 8601"
                raise BadDataError(f"example {_id(examples, i)}: {said}") from None
        return after


def _values(examples: Columns, name: str) -> Sequence[Any]:
    """A property that is no input, of every example; None where it is missing."""
    others = examples.get("others")
    if not isinstance(others, Texts):
        raise BadDataError(f"no record has a property {name!r} that is no input, and the splits are to follow it")
    return [json.loads(text).get(name) if text else None for text in others.array().tolist()]


def _position(value: Any) -> float:
    """Where a group stands in [0, 1), by its hash."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2.0**64


def _id(examples: Columns, row: int) -> str:
    ids = examples["id"]
    return ids.array(np.array([row]))[0].decode() if isinstance(ids, Texts) else ""
