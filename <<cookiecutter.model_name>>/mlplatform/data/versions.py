"""From checked parts to a dataset version: merged, deduplicated, divided into splits, published."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlplatform.contract.errors import BadDataError
from mlplatform.data.dataset import Schema
from mlplatform.data.merging import distinct, merged
from mlplatform.data.parts import Part
from mlplatform.data.splitting import SplitRule
from mlplatform.data.stratifying import bounds
from mlplatform.data.writing import DatasetWriter
from mlplatform.store.manifest import Manifest, publish
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

    Only one bucket of examples is in memory at a time. The manifest's `duplicates`: examples `repeated` and so left
    out; `conflicting` ones, left out because another with their id was kept; and of those kept, how many have the same
    inputs as another (`same_inputs`), and how many outside the train split have the inputs of one inside
    (`across_splits`), which flatters the metrics. records: what became of the source's records, for the manifest.
    Raises BadDataError if a split would be empty, or if more examples conflict than are allowed.
    """
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as temporary:
        buckets, directory = Path(temporary) / "buckets", Path(temporary) / "dataset"
        buckets.mkdir()
        directory.mkdir()
        ends = bounds(storage, parts, schema, rule, work) if rule.stratified else None
        writer = DatasetWriter(directory, schema, rule, ends)
        repeated = 0
        conflicts: list[bytes] = []
        for examples in merged(storage, parts, schema, buckets, work):
            kept, repeats, conflicting = distinct(examples)
            writer.add(kept)
            repeated += repeats
            conflicts += conflicting
        writer.close()
        _check(writer, conflicts, conflicts_allowed)
        version = writer.version()
        properties = {
            "schema": schema.fingerprint(),
            "inputs": [asdict(spec) for spec in schema.inputs],
            "labels": list(schema.target.labels),
            "targets": [schema.target.to_json()],
            "options": rule.identity(),
            "splits": writer.splits(),
            "duplicates": {"repeated": repeated, "conflicting": len(conflicts), **writer.same_inputs()},
            "parts": len(parts),
            "records": records,
        }
        return publish(storage, f"datasets/{version}", directory, "dataset", version, properties)


def _check(writer: DatasetWriter, conflicts: Sequence[bytes], conflicts_allowed: int) -> None:
    """Raises BadDataError if more examples conflict than are allowed, or if a split is empty."""
    if len(conflicts) > conflicts_allowed:
        shown = ", ".join(example_id.decode() for example_id in conflicts[:SHOWN_IDS])
        raise BadDataError(
            f"{len(conflicts)} records have the id of another record and other content; "
            f"{conflicts_allowed} more may be left out by maximum_bad_records. Ids: {shown}"
        )
    examples = {name: split["examples"] for name, split in writer.splits().items()}
    empty = [name for name, count in examples.items() if not count]
    if empty:
        raise BadDataError(
            f"{sum(examples.values())} examples are too few to divide: the {' and '.join(empty)} split would be empty; "
            "add data, or change validation_fraction and test_fraction"
        )
