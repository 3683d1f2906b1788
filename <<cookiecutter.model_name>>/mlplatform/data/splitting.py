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
from mlplatform.data.columns import Array, Columns, Texts, numbers, texts
from mlplatform.data.dataset import SOURCE, SPLITS
from mlplatform.store.moments import parse


@dataclass(frozen=True)
class SplitRule:
    """Shares of the examples that go to the validation and the test split, 0 to 1, and what decides; the rest is train.

    The other fields name properties of the record that are no input. group: examples with the same value are in one
    split; it may be the property that is learned, too. time: those from `test_after` on (ISO 8601, UTC if it says no
    other) are the test split. fixed: it says train, validation or test. stratified: the shares hold for each label.
    together: examples that look alike are in one split, see together.py.
    """

    validation_fraction: float
    test_fraction: float
    group: str = ""
    time: str = ""
    test_after: str = ""
    fixed: str = ""
    stratified: bool = False
    together: bool = False

    @property
    def of_all(self) -> bool:
        """Whether an example's split depends on other examples, so that it may change as data grows."""
        return self.stratified or self.together

    def identity(self) -> dict[str, Any]:
        """What a version's name follows from: a rule without what came later is named as before there was such."""
        return {name: value for name, value in asdict(self).items() if name not in ("stratified", "together") or value}

    def assign(
        self, examples: Columns, bounds: NDArray[np.float64] | None = None, target: Target | None = None
    ) -> NDArray[np.int8]:
        """(n,): index into SPLITS, for columns of ExampleMaker.make. Raises BadDataError where that is not said.

        bounds: of a stratified rule, see stratifying.bounds. target: what the truths of the examples are of.
        """
        if bounds is not None:
            position, ends = positions(examples), bounds[numbers(examples, "label")]
            splits = np.where(position < ends[:, 0], SPLITS.index("test"), 0)
            inside = (position >= ends[:, 0]) & (position < ends[:, 1])
            return np.where(inside, SPLITS.index("validation"), splits).astype(np.int8)
        if self.fixed:
            return self._as_fixed(examples)
        position = self.group_hashes(examples, target) / 2.0**64
        test = self._after(examples) if self.time else position < self.test_fraction
        validation = ~test & (position < self.validation_fraction + (0 if self.time else self.test_fraction))
        return np.where(test, SPLITS.index("test"), np.where(validation, SPLITS.index("validation"), 0)).astype(np.int8)

    def group_hashes(self, examples: Columns, target: Target | None = None) -> NDArray[np.uint64]:
        """(n,): 64 bits of the hash of each example's group; as `hashes` says where it has none.

        target: what the truths of the examples are of.
        """
        own = hashes(examples)
        if not self.group:
            return own
        values = zip(own.tolist(), self._groups(examples, target), strict=True)
        return np.array([high if value is None else _hash(value) for high, value in values], np.uint64)

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


def positions(examples: Columns) -> NDArray[np.float64]:
    """(n,), in [0, 1): where examples stand by `hashes`."""
    position: NDArray[np.float64] = hashes(examples) / 2.0**64
    return position


def hashes(examples: Columns) -> NDArray[np.uint64]:
    """(n,): 64 bits of the hash of each example's id; of those that steps made of one record, of its id.

    It needs the columns `high` and, if there are steps, SOURCE.
    """
    if SOURCE in examples:
        return np.array([_hashed(source) for source in texts(examples, SOURCE).array().tolist()], np.uint64)
    return numbers(examples, "high")


def _values(examples: Columns, name: str) -> Sequence[Any]:
    """A property that is no input, of every example; None where it is missing."""
    others = examples.get("others")
    if not isinstance(others, Texts):
        raise BadDataError(f"no record has a property {name!r} that is no input, and the splits are to follow it")
    return [json.loads(text).get(name) if text else None for text in others.array().tolist()]


def _hash(value: Any) -> int:
    """The first 64 bits of a group's SHA-256."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return _hashed(text.encode())


def _hashed(text: bytes) -> int:
    return int.from_bytes(hashlib.sha256(text).digest()[:8])


def _id(examples: Columns, row: int) -> str:
    ids = examples["id"]
    return ids.array(np.array([row]))[0].decode() if isinstance(ids, Texts) else ""
