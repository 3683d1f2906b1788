"""The labelling loop: what people are asked to label, and what they said, kept in the store.

labelling/asked/<moment>-<way>.jsonl.gz     records without labels, in the order of asking
labelling/labels/<content>.jsonl.gz         who said when what an example is: id, label, by, at
sources/labelled/<moment>-<content>.ready.jsonl.gz      records with these labels
"""

import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mlplatform.contract.targets import Target
from mlplatform.data.forgetting import take_out
from mlplatform.data.label_studio import Label
from mlplatform.data.records import READY
from mlplatform.store.moments import iso
from mlplatform.store.storage import Storage

ASKED, LABELS, LABELLED = "labelling/asked/", "labelling/labels/", "sources/labelled/"


def keep_asked(storage: Storage, way: str, records: Sequence[Mapping[str, Any]]) -> str:
    """Keep records that people are asked to label; returns their key."""
    key = f"{ASKED}{_now()}-{way}.jsonl.gz"
    storage.write(key, _packed(records))
    return key


def asked(storage: Storage) -> Iterator[dict[str, Any]]:
    """All records that people were asked to label."""
    for key in storage.keys(ASKED):
        yield from _lines(storage, key)


def labelled_ids(storage: Storage) -> frozenset[str]:
    """Ids of the records that people labelled."""
    return frozenset(str(entry["id"]) for key in storage.keys(LABELS) for entry in _lines(storage, key))


def join(
    storage: Storage, labels: Sequence[Label], target: Target, schema: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], list[Label], Counter[str]]:
    """The records of labelled examples, their labels, and how many labels make none, by reason.

    target: what the model learns, with labels. A record has `labelled_by` and `labelled_at`, if its schema,
    `model.RECORD`, has these properties.
    """
    waiting = {str(record["id"]): record for record in asked(storage)}
    properties = schema.get("properties", {})
    records, kept = [], []
    left_out: Counter[str] = Counter()
    for label in labels:
        if label.id not in waiting:
            left_out["labels of examples that nobody was asked about"] += 1
        elif label.label not in target.labels:
            left_out[f"labels {label.label!r}, which is none of model.LABELS"] += 1
        else:
            beside = {"labelled_by": label.by, "labelled_at": label.at}
            extra = {name: value for name, value in beside.items() if name in properties and value}
            record = {**waiting[label.id], **extra, target.name: label.label}
            # Kept for joining; a record has one only if its schema does.
            records.append(record if "id" in properties else {k: v for k, v in record.items() if k != "id"})
            kept.append(label)
    return records, kept, left_out


def keep_labels(storage: Storage, records: Sequence[Mapping[str, Any]], labels: Sequence[Label]) -> str:
    """Make labelled records a source, in place of what was there of the same ids; returns their key.

    Who labelled what is written first: what is killed in between is done again by the same call.
    """
    said = _packed([asdict(label) for label in labels])
    storage.write(f"{LABELS}{_digest(said)}.jsonl.gz", said)
    for key in list(storage.keys("sources/")):
        take_out(storage, key, {label.id for label in labels})
    content = _packed(records)
    key = f"{LABELLED}{_now()}-{_digest(content)}{READY}.jsonl.gz"
    storage.write(key, content)
    return key


def _now() -> str:
    return iso().replace(":", "").replace("-", "")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _packed(records: Sequence[Mapping[str, Any]]) -> bytes:
    lines = "".join(json.dumps(record, ensure_ascii=False, sort_keys=True) + "\n" for record in records)
    return gzip.compress(lines.encode(), mtime=0)


def _lines(storage: Storage, key: str) -> Iterator[dict[str, Any]]:
    for line in gzip.decompress(storage.read(key)).splitlines():
        yield json.loads(line)
