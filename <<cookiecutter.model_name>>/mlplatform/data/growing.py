"""What a dataset version has in common with one that is there: which that is, and its examples among new ones."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlplatform.data.columns import Columns, concatenate, numbers, take, texts
from mlplatform.data.dataset import HASH, OTHERS, SPLITS, Schema
from mlplatform.data.layers import Layer, Run, layers_of, taken_over
from mlplatform.data.merging import row_bytes
from mlplatform.data.parts import Part
from mlplatform.data.splitting import SplitRule
from mlplatform.store import manifest
from mlplatform.store.manifest import ArtifactError, Manifest
from mlplatform.store.storage import MissingKeyError, Storage

log = logging.getLogger(__name__)
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
    if rule.of_all:
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
    before = set(largest.properties[SOURCES])
    coming = [part for identity, part in identities.items() if identity not in before]
    try:
        version, content = manifest.fetch(storage, f"datasets/{largest.id}", work)
    except (ArtifactError, MissingKeyError) as error:
        log.warning("prepare: the dataset is made as a whole and not of %s: %s", largest.id, error)
        return None
    layers = layers_of(version, content)
    rows = sum(file.rows for part in coming for file in part.files.values())
    return Base(version, layers, len(taken_over(layers, rows)), coming)


def _examples(version: Manifest) -> int:
    return sum(int(split["examples"]) for split in version.properties["splits"].values())


class Growth:
    """The examples of a version's layers, with new ones among them, bucket by bucket.

    kept: how many of the layers stay; the examples of the others belong to the new one. repeated: so many new ones were
    left out as they repeat an old one.
    """

    def __init__(self, layers: Sequence[Layer], kept: int) -> None:
        self.kept = kept
        self.repeated = 0
        self._runs = [
            [(min(number, kept), Run(layer, split)) for number, layer in enumerate(layers)] for split in SPLITS
        ]

    def next(
        self, end: int, coming: Columns | None, splits: NDArray[np.int8] | None
    ) -> Iterator[tuple[int, Columns, NDArray[np.int8]]]:
        """All examples whose ids' hashes begin with 32 bits below `end` and that did not come before, split by split.

        Yields the index into SPLITS, examples in the order of the hashes, and for each the number of its layer. coming:
        new ones among them, distinct; both by the names of shards. Raises NotGrownError if a new one is to replace an
        old one or contradicts it.
        """
        old = [[(number, table) for number, run in runs for table in run.before(end)] for runs in self._runs]
        new = np.empty(0, bool)
        if coming is not None:
            new = ~_repeated(coming, [table for tables in old for _, table in tables])
            self.repeated += int((~new).sum())
        for split, tables in enumerate(old):
            if coming is not None and (chosen := new & (splits == split)).any():
                tables.append((self.kept, take(coming, chosen)))
            if tables:
                layers = [np.full(len(numbers(table, HASH)), number, np.int8) for number, table in tables]
                yield split, *_in_order([table for _, table in tables], np.concatenate(layers))


def _in_order(tables: Sequence[Columns], layers: NDArray[np.int8]) -> tuple[Columns, NDArray[np.int8]]:
    """Distinct examples of tables that are in order themselves as one, and the layer of each."""
    if len(tables) == 1:
        return tables[0], layers
    examples = concatenate(tables)
    hashes = numbers(examples, HASH)
    order = np.argsort(hashes, kind="stable")
    # By the whole hash where the first bits are the same, as for one of ten thousand among a million.
    same = hashes[order][1:] == hashes[order][:-1]
    for first, last in np.flatnonzero(np.diff(np.concatenate([[0], same.view(np.int8), [0]]))).reshape(-1, 2):
        rows = order[first : last + 1]
        digests = [hashlib.sha256(example_id).digest() for example_id in texts(examples, "id").array(rows)]
        order[first : last + 1] = [row for _, row in sorted(zip(digests, rows.tolist(), strict=True))]
    return take(examples, order), layers[order]


def _repeated(coming: Columns, tables: Sequence[Columns]) -> NDArray[np.bool_]:
    """(n,): which new examples have the id of an old one, in tables in order. Raises NotGrownError, see Growth.next."""
    hashes = numbers(coming, HASH)
    repeated = np.zeros(len(hashes), bool)
    for table in tables:
        old = numbers(table, HASH)
        places = np.searchsorted(old, hashes)
        for row in np.flatnonzero(old[np.minimum(places, len(old) - 1)] == hashes).tolist():
            for place in range(places[row], np.searchsorted(old, hashes[row], side="right")):
                (content, others), (new_content, new_others) = (
                    row_bytes(table, place, OTHERS),
                    row_bytes(coming, row, OTHERS),
                )
                if content[0] != new_content[0]:
                    continue
                if content != new_content or others > new_others:
                    raise NotGrownError
                repeated[row] = True
    return repeated
