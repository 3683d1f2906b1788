"""What a dataset version has in common with one that is there: which that is, and its examples among new ones."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlplatform.data.columns import Array, Columns, concatenate, numbers, take, texts
from mlplatform.data.dataset import HASH, OTHERS, SPLITS, Schema
from mlplatform.data.layers import Layer, Run, layers_of, taken_over
from mlplatform.data.merging import row_bytes
from mlplatform.data.parts import Part
from mlplatform.data.splitting import SplitRule
from mlplatform.store import manifest
from mlplatform.store.manifest import ArtifactError, Manifest
from mlplatform.store.storage import MissingKeyError, Storage

# A version's property: identities of the parts that it was made of.
SOURCES = "sources"


class NotGrownError(Exception):
    """A version cannot be made of another one and what came: it has to be made of all parts."""


@dataclass(frozen=True)
class Base:
    """A version that another one grows from. layers: its layers; kept: how many of them stay; coming: the parts that it
    was not made of.
    """

    version: Manifest
    layers: Sequence[Layer]
    kept: int
    coming: Sequence[Part]

    @property
    def bytes(self) -> int:
        """Of all layers."""
        return sum(layer.bytes for layer in self.layers)


def find_base(storage: Storage, parts: Sequence[Part], schema: Schema, rule: SplitRule, work: Path) -> Base | None:
    """The largest version that was made of some of these parts and no others, and is divided as these are to be.

    None if there is none, or if it is damaged.
    """
    # Where shares hold for each label, an example may change its split.
    if rule.stratified:
        return None
    identities = {part.identity(): part for part in parts}
    fitting = [
        version
        for version in manifest.list_artifacts(storage, "datasets", damaged=lambda _: None)
        if version.needs
        and version.properties["schema"] == schema.fingerprint()
        and version.properties["options"] == rule.identity()
        and identities.keys() >= set(version.properties[SOURCES])
    ]
    if not fitting:
        return None
    largest = max(fitting, key=_examples)
    coming = [part for identity, part in identities.items() if identity not in largest.properties[SOURCES]]
    try:
        version, content = manifest.fetch(storage, f"datasets/{largest.id}", work)
    except (ArtifactError, MissingKeyError):
        return None
    layers = layers_of(version, content)
    rows = sum(file.rows for part in coming for file in part.files.values())
    return Base(version, layers, len(taken_over(layers, rows)), coming)


def _examples(version: Manifest) -> int:
    return sum(int(split["examples"]) for split in version.properties["splits"].values())


@dataclass(frozen=True)
class Grown:
    """Examples in the order of their ids' hashes, by the names of shards; for each the index into SPLITS and the number
    of its layer; and how many new ones repeat an old one.
    """

    examples: Columns
    splits: NDArray[np.int8]
    layers: NDArray[np.int8]
    repeated: int


class Growth:
    """The examples of a version's layers, with new ones among them, bucket by bucket.

    kept: how many of the layers stay; the examples of the others belong to the new one.
    """

    def __init__(self, layers: Sequence[Layer], kept: int) -> None:
        self.kept = kept
        self._runs = [
            (min(number, kept), split, Run(layer, name))
            for number, layer in enumerate(layers)
            for split, name in enumerate(SPLITS)
        ]

    def next(self, end: int, coming: Columns | None, splits: NDArray[np.int8] | None) -> Grown | None:
        """All examples whose ids' hashes begin with 32 bits below `end` and that did not come before; None without any.

        coming: new ones among them, distinct, by the names of shards. Raises NotGrownError if one of them is to replace
        an old one or contradicts it.
        """
        tables, divided, numbered = [], [], []
        for number, split, run in self._runs:
            for table in run.before(end):
                tables.append(table)
                divided.append(np.full(len(numbers(table, HASH)), split, np.int8))
                numbered.append(np.full(len(numbers(table, HASH)), number, np.int8))
        old = sum(map(len, divided))
        if coming is not None and splits is not None:
            tables.append(coming)
            divided.append(splits)
            numbered.append(np.full(len(splits), self.kept, np.int8))
        if not tables:
            return None
        if not old:
            return Grown(tables[0], divided[0], numbered[0], 0)
        examples = concatenate(tables)
        order = np.argsort(numbers(examples, HASH), kind="stable")
        order, repeated = _without_repeated(examples, order, old)
        return Grown(take(examples, order), np.concatenate(divided)[order], np.concatenate(numbered)[order], repeated)


def _without_repeated(examples: Columns, order: Array, old: int) -> tuple[Array, int]:
    """The order by the whole hash where the first bits are the same, without new examples that repeat an old one; and
    how many these are. old: so many examples, the first of the table, are not new.
    """
    hashes = numbers(examples, HASH)[order]
    same = hashes[1:] == hashes[:-1]
    if not same.any():
        return order, 0
    kept = np.ones(len(order), dtype=bool)
    for first, last in np.flatnonzero(np.diff(np.concatenate([[0], same.view(np.int8), [0]]))).reshape(-1, 2):
        rows = order[first : last + 1]
        digests = [hashlib.sha256(example_id).digest() for example_id in texts(examples, "id").array(rows)]
        ranked = sorted(zip(digests, rows.tolist(), strict=True))
        order[first : last + 1] = [row for _, row in ranked]
        for place, ((one, row), (other, later)) in enumerate(pairwise(ranked), start=first + 1):
            if one == other:
                _check_repeated(examples, row, later, old)
                kept[place] = False
    return order[kept], int((~kept).sum())


def _check_repeated(examples: Columns, row: int, later: int, old: int) -> None:
    """Raises NotGrownError unless the second of two examples with one id is new and may be left out for the first."""
    content, others = row_bytes(examples, row, OTHERS)
    new_content, new_others = row_bytes(examples, later, OTHERS)
    if row >= old or later < old or content != new_content or others > new_others:
        raise NotGrownError
