"""Several machines that check one source: each is a child of an array job of AWS Batch, and takes its share of files.

Parts are complete or absent in the store, so a share may be taken again at any point, by any number of machines.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

# Batch sets both for the children of an array job.
INDEX_VARIABLE = "AWS_BATCH_JOB_ARRAY_INDEX"
SIZE_VARIABLE = "AWS_BATCH_JOB_ARRAY_SIZE"

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """The share of one of so many machines. index: from 0."""

    index: int
    machines: int

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """Its items, where every machine has the same in the same order."""
        return items[self.index :: self.machines]


def own_share() -> Share | None:
    """The share of this process; None if it is no child of an array job."""
    index, machines = os.environ.get(INDEX_VARIABLE), os.environ.get(SIZE_VARIABLE)
    return Share(int(index), int(machines)) if index and machines else None
