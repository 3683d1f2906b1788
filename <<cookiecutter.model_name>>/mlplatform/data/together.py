"""Near-duplicates in one split: an example goes where the first of those that look like it goes.

A set is what looks alike and, where a group decides the split or steps made several examples of one record, what such
examples tie. Which example is the first of its set follows from the hashes of their ids, in an order of its own, so
that a large set is no likelier to be in the test split than a small one. By time the first is one from before, if there
is any: a copy of what was known then is nothing new.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlplatform.data.columns import numbers
from mlplatform.data.dataset import SOURCE, SPLITS, Schema
from mlplatform.data.likeness import Likeness
from mlplatform.data.merging import chosen
from mlplatform.data.parts import Part
from mlplatform.data.splitting import SplitRule
from mlplatform.data.stratifying import Bounds
from mlplatform.data.writing import as_stored
from mlplatform.store.storage import Storage

log = logging.getLogger(__name__)
Hashes = NDArray[np.uint64]
# Odd, so that ids' hashes times it, modulo 2**64, are as different as they are: their order in a set.
ORDER = np.uint64(0x9E3779B97F4A7C15)
# Share of the examples in one set from which near-duplicates decide more of the splits than a person may want.
LARGE_SET = 0.1


@dataclass(frozen=True)
class Moved:
    """Examples that go to another split than by themselves. hashes: first 64 bits of their ids' SHA-256, in order.

    splits: indices into SPLITS.
    """

    hashes: Hashes
    splits: NDArray[np.int8]

    def applied(self, hashes: Hashes, splits: NDArray[np.int8]) -> NDArray[np.int8]:
        """(n,): the splits of examples with these hashes, which by themselves go to `splits`."""
        if not len(self.hashes):
            return splits
        places = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        return np.where(self.hashes[places] == hashes, self.splits[places], splits)


def moved(
    storage: Storage, parts: Sequence[Part], schema: Schema, rule: SplitRule, ends: Bounds | None, work: Path
) -> Moved:
    """Which examples of parts follow others to their splits. ends: of a stratified rule, see stratifying.bounds.

    All parts are read once more, twice where numbers are compared; 17 bytes of each example are kept, 25 with groups,
    and a few times that is needed to sort them. Raises BadDataError as SplitRule.assign does.
    """
    likeness = Likeness(schema.inputs)
    if likeness.needs_figures:
        for examples in chosen(storage, parts, schema, work):
            likeness.add(as_stored(examples))
    highs, keys, groups = ([np.empty(0, np.uint64)] for _ in range(3))
    splits = [np.empty(0, np.int8)]
    for examples in chosen(storage, parts, schema, work):
        highs.append(numbers(examples, "high"))
        keys.append(likeness.keys(as_stored(examples)))
        splits.append(rule.assign(examples, ends, schema.target))
        tied = bool(rule.group) or SOURCE in examples
        groups.append(rule.group_hashes(examples, schema.target) if tied else np.empty(0, np.uint64))
    ties = [np.concatenate(keys), *([np.concatenate(groups)] if any(map(len, groups)) else [])]
    own, high = np.concatenate(splits), np.concatenate(highs)
    rank = high * ORDER
    if rule.time:
        rank = (rank >> np.uint64(1)) | ((own == SPLITS.index("test")).astype(np.uint64) << np.uint64(63))
    firsts = _firsts(rank, ties)
    at = np.argsort(rank)
    followed = own[at[np.searchsorted(rank, firsts, sorter=at)]]
    changed = np.flatnonzero(followed != own)
    _tell(firsts, high, len(changed))
    hashes, rows = np.unique(high[changed], return_index=True)
    return Moved(hashes, followed[changed][rows])


def _firsts(rank: Hashes, ties: Sequence[Hashes]) -> Hashes:
    """(n,): the least rank in the set of each example. ties: what examples of one set share, one or the other."""
    orders = [_order(tie) for tie in ties]
    while len(rank):
        least = rank
        for order, starts in orders:
            values = np.repeat(np.minimum.reduceat(least[order], starts), np.diff(np.append(starts, len(order))))
            least = np.empty_like(values)
            least[order] = values
        if len(ties) == 1 or np.array_equal(least, rank):
            return least
        rank = least
    return rank


def _order(tie: Hashes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows in an order in which those that share something follow each other, and where each such run starts."""
    order = np.argsort(tie, kind="stable")
    same = tie[order]
    return order, np.flatnonzero(np.append(len(same) > 0, same[1:] != same[:-1]))


def _tell(firsts: Hashes, high: Hashes, changed: int) -> None:
    _, rows = np.unique(high, return_index=True)
    _, sizes = np.unique(firsts[rows], return_counts=True)
    largest = int(sizes.max(initial=1))
    if largest == 1:
        log.info("prepare: no example looks like another one")
        return
    sets = int(np.count_nonzero(sizes > 1))
    level = logging.WARNING if largest > LARGE_SET * len(rows) else logging.INFO
    log.log(
        level,
        "prepare: examples that look alike or share their group: %d sets, the largest of %d of %d examples; %d follow "
        "others to their split",
        sets,
        largest,
        len(rows),
        changed,
    )
