"""Ground truth from a file: labels by request id, read strictly and stored as events."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from mlplatform.contract import events
from mlplatform.contract.events import Process
from mlplatform.contract.labels import label_text
from mlplatform.delivery.errors import BadRequestError
from mlplatform.store.storage import Storage

FORMS = 'JSON lines of {"request_id": ..., "label": ...}, or CSV with the columns request_id and label'
# Lines of one segment: 100,000 labels are 8 MB of JSON.
SEGMENT_LINES = 100_000


@dataclass(frozen=True)
class Label:
    """The true labels of a request's rows; None where unknown."""

    id: str
    labels: tuple[str | None, ...]


def read(path: Path) -> list[Label]:
    """The labels of a file, in its order: JSON lines, or CSV if its name ends in .csv.

    A request of several rows has `labels`, a list with null for what is not known, or in CSV a column `row`, from 0.
    Raises BadRequestError naming the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise BadRequestError(f"{path}: {reason}; expected {FORMS}") from None
    labels = list(_from_csv(path, text) if path.suffix == ".csv" else _from_json(path, text))
    if not labels:
        raise BadRequestError(f"{path}: holds no label; expected {FORMS}")
    return labels


def save(storage: Storage, service: str, labels: Sequence[Label], now: datetime) -> int:
    """Store labels as events; return how many segments are new. The same labels given twice in a day are stored once.

    Raises StorageError.
    """
    new = 0
    for start in range(0, len(labels), SEGMENT_LINES):
        part = labels[start : start + SEGMENT_LINES]
        content = json.dumps([[label.id, label.labels] for label in part]).encode()
        process = Process(service, "feedback", "", "", sha256(content).hexdigest()[:16])
        lines = [process.header(), *(_event(label, now) for label in part)]
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        packed = events.pack(b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines))
        new += storage.create(events.key(process, start // SEGMENT_LINES, midnight), packed)
    return new


def _event(label: Label, now: datetime) -> Mapping[str, Any]:
    return {"kind": "label", "at": round(now.timestamp(), 3), "id": label.id, "labels": label.labels}


def _from_json(path: Path, text: str) -> Iterator[Label]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BadRequestError(f"{path}, line {number}: not JSON ({error}); expected {FORMS}") from None
        if not isinstance(row, dict) or not row.keys() & {"label", "labels"}:
            raise BadRequestError(f"{path}, line {number}: {line[:80]!r}; expected {FORMS}")
        given = row["labels"] if "labels" in row else [row["label"]]
        if not isinstance(given, list) or not given or not all(_is_label(label) for label in given):
            raise BadRequestError(
                f"{path}, line {number}: labels are {given!r}; expected text, a list of tags, an object by target, or "
                "null if not known"
            )
        yield Label(
            _id(path, number, row.get("request_id")),
            tuple(None if label is None else _text(label) for label in given),
        )


def _from_csv(path: Path, text: str) -> Iterator[Label]:
    reader = csv.DictReader(text.splitlines())
    columns = reader.fieldnames or []
    if not {"request_id", "label"} <= set(columns):
        raise BadRequestError(f"{path}: its columns are {', '.join(columns) or 'none'}; expected request_id and label")
    rows: dict[str, dict[int, str]] = {}
    for number, row in enumerate(reader, start=2):
        place, label = row.get("row") or "0", row["label"]
        if not place.isascii() or not place.isdigit() or int(place[:7]) > 1_000_000:
            raise BadRequestError(f"{path}, line {number}: row is {place!r}; expected a number from 0")
        if not label:
            raise BadRequestError(f"{path}, line {number}: label is empty; expected text")
        rows.setdefault(_id(path, number, row["request_id"]), {})[int(place)] = label
    for id, labels in rows.items():
        yield Label(id, tuple(labels.get(i) for i in range(max(labels) + 1)))


def _is_label(value: object) -> bool:
    if isinstance(value, dict):
        return bool(value) and all(_is_label(of_target) for of_target in value.values())
    if isinstance(value, list):
        return all(isinstance(tag, str | int | float) for tag in value)
    return value is None or (isinstance(value, str | int | float) and value != "")


def _text(label: object) -> str:
    """A label as text; tags as a JSON array, as a table has them in a cell, and several targets as a JSON object."""
    return json.dumps(label, ensure_ascii=False) if isinstance(label, list | dict) else label_text(label)


def _id(path: Path, number: int, given: object) -> str:
    if events.is_request_id(given):
        return given
    raise BadRequestError(
        f"{path}, line {number}: request_id is {given!r}; expected 1 to 128 printable ASCII characters"
    )
