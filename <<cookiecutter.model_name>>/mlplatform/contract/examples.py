"""The examples of a split as `model.train` gets them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class Examples:
    """All examples of a split, in memory.

    inputs: by name, in the order of model.RECORD, each (examples, *shape): numbers float32, whole numbers int64, bool,
    text as str. truth: (examples,), positions in the labels, int32, numbers, float32, or of vectors identities, bytes;
    of tags (examples, tags), 1 for those that an example has.
    """

    inputs: Mapping[str, NDArray[Any]]
    truth: NDArray[Any]

    def __len__(self) -> int:
        return len(self.truth)
