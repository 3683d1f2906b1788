"""From checked parts to a dataset version: merged, deduplicated, divided into splits, published."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlplatform.contract.errors import BadDataError
from mlplatform.data.columns import numbers
from mlplatform.data.dataset import Schema
from mlplatform.data.growing import SOURCES, Base, Growth, NotGrownError, find_base
from mlplatform.data.layers import publish
from mlplatform.data.merging import distinct, merged
from mlplatform.data.parts import Part
from mlplatform.data.splitting import SplitRule
from mlplatform.data.stratifying import bounds
from mlplatform.data.together import moved
from mlplatform.data.writing import DatasetWriter, as_stored
from mlplatform.store.manifest import Manifest
from mlplatform.store.storage import Storage

# Conflicting ids that a message names; all are counted.
SHOWN_IDS = 10


def prepare(
    storage: Storage,
    parts: Sequence[Part],
    schema: Schema,
    rule: SplitRule,
    work: Path,
    conflicts_allowed: int = 0,
    records: Mapping[str, Any] | None = None,
) -> Manifest:
    """Merge the files of parts into a dataset version and publish it as `datasets/<version>`.

    If there is a version of some of these parts, only the others are read again, and only what they add is written; the
    version is the same. Only one bucket of examples is in memory at a time. The manifest's `duplicates`: examples
    `repeated` and so left out; `conflicting` ones, left out because another with their id was kept; and of those kept,
    how many have the same inputs as another (`same_inputs`), and how many outside the train split have the inputs of
    one inside (`across_splits`), which flatters the metrics. records: what became of the source's records, for the
    manifest. Raises BadDataError if a split would be empty, or if more examples conflict than are allowed.
    """
    work.mkdir(parents=True, exist_ok=True)
    known = {"parts": len(parts), "records": records, SOURCES: sorted(part.identity() for part in parts)}
    base = find_base(storage, parts, schema, rule, work)
    if base and not base.coming and base.version.properties["duplicates"]["conflicting"] <= conflicts_allowed:
        return base.version
    while True:
        try:
            version = _prepare(storage, base, parts, schema, rule, work, conflicts_allowed, known)
        except NotGrownError:
            version = None
        if version is not None:
            return version
        base = None


def _prepare(
    storage: Storage,
    base: Base | None,
    parts: Sequence[Part],
    schema: Schema,
    rule: SplitRule,
    work: Path,
    conflicts_allowed: int,
    known: Mapping[str, Any],
) -> Manifest | None:
    """Publish a version; None if a layer of the base was removed meanwhile. Raises NotGrownError and BadDataError."""
    with tempfile.TemporaryDirectory(dir=work) as temporary:
        buckets, layer, own = (Path(temporary) / name for name in ("buckets", "layer", "own"))
        for directory in (buckets, layer, own):
            directory.mkdir()
        kept = base.layers[: base.kept] if base else []
        coming = base.coming if base else parts
        writer = DatasetWriter(layer, schema, rule, len(kept))
        duplicates = _merge(storage, base, coming, writer, buckets, work)
        writer.close()
        if base and duplicates.conflicting > conflicts_allowed:
            # So that all of them are named.
            raise NotGrownError
        splits = writer.splits()
        _check(splits, duplicates.ids, conflicts_allowed)
        if kept:
            writer.write_places(own)
        properties = {
            "schema": schema.fingerprint(),
            "inputs": [spec.to_json() for spec in schema.inputs],
            "labels": list(schema.target.labels),
            "targets": [part.to_json() for part in schema.target.parts],
            "options": rule.identity(),
            **({"steps": [step.identity for step in schema.steps]} if schema.steps else {}),
            "splits": splits,
            "duplicates": {
                "repeated": duplicates.repeated,
                "conflicting": duplicates.conflicting,
                **writer.same_inputs(),
            },
            **known,
        }
        return publish(storage, writer.version(), kept, layer, own, properties)


@dataclass
class _Duplicates:
    """Examples left out as they repeat one with their id, or conflict with it. ids: of the latter that came."""

    repeated: int = 0
    conflicting: int = 0
    ids: list[bytes] = field(default_factory=list)


def _merge(
    storage: Storage, base: Base | None, coming: Sequence[Part], writer: DatasetWriter, buckets: Path, work: Path
) -> _Duplicates:
    """Give the writer all examples in order. Raises NotGrownError and BadDataError."""
    rule, schema = writer.rule, writer.schema
    before = base.version.properties["duplicates"] if base else {}
    duplicates = _Duplicates(before.get("repeated", 0), before.get("conflicting", 0))
    ends = bounds(storage, coming, schema, rule, work) if rule.stratified else None
    followers = moved(storage, coming, schema, rule, ends, work) if rule.together else None
    growth = Growth(base.layers if base else [], base.kept if base else 0)
    for bucket in merged(storage, coming, schema, buckets, work, base.bytes if base else 0):
        new, splits = None, None
        if bucket.examples is not None:
            kept, repeated, conflicting = distinct(bucket.examples)
            duplicates.repeated += repeated
            duplicates.conflicting += len(conflicting)
            duplicates.ids += conflicting
            new, splits = as_stored(kept), rule.assign(kept, ends, schema.target)
            splits = followers.applied(numbers(kept, "high"), splits) if followers else splits
        for split, examples, layers in growth.next(bucket.end, new, splits):
            writer.add(split, examples, layers)
    duplicates.repeated += growth.repeated
    return duplicates


def _check(splits: Mapping[str, Any], conflicts: Sequence[bytes], conflicts_allowed: int) -> None:
    """Raises BadDataError if more examples conflict than are allowed, or if a split is empty."""
    if len(conflicts) > conflicts_allowed:
        shown = ", ".join(example_id.decode() for example_id in conflicts[:SHOWN_IDS])
        raise BadDataError(
            f"{len(conflicts)} records have the id of another record and other content; "
            f"{conflicts_allowed} more may be left out by maximum_bad_records. Ids: {shown}"
        )
    examples = {name: split["examples"] for name, split in splits.items()}
    empty = [name for name, count in examples.items() if not count]
    if empty:
        raise BadDataError(
            f"{sum(examples.values())} examples are too few to divide: the {' and '.join(empty)} split would be empty; "
            "add data, or change validation_fraction and test_fraction"
        )
