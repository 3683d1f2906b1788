"""Traffic as data: requests that the server stored, joined with the labels that came later, as records of the model.

Bodies are stored only if `events_bodies` of [serving] is on. A team may define `redact(record)` in `model/`, which
returns the record as it may be kept, or None if it may not.
"""

import base64
import binascii
import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from mlplatform.contract import events
from mlplatform.store.storage import Storage

Redact = Callable[[dict[str, Any]], dict[str, Any] | None]


@dataclass
class Joined:
    """What became of the requests of a time. records: written; left_out: rows or requests by reason."""

    requests: int = 0
    records: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def write_records(
    storage: Storage,
    service: str,
    since: datetime,
    until: datetime,
    schema: Mapping[str, Any],
    path: Path,
    sample: float = 1.0,
    redact: Redact | None = None,
) -> Joined:
    """Write the labelled rows that a live service answered between two moments (UTC) as a .jsonl.gz file of records.

    Labels that came after `until` count as well. schema: `model.RECORD`; a record has an `id`, and `at`, `model` (the
    version that answered) and `predicted`, if the schema has these properties. sample: share of the requests, always
    the same ones. The same events give the same bytes. Raises EventsError or StorageError.
    """
    labels = _labels(storage, service, since)
    joined = Joined()
    seen: set[str] = set()
    lines = []
    for event, process in _predictions(storage, service, since, until):
        joined.requests += 1
        reason = _unusable(event, labels, seen, sample)
        if reason:
            joined.left_out[f"requests {reason}"] += 1
            continue
        seen.add(event["id"])
        rows = _rows(event["body"])
        if rows is None or len(rows) != len(labels[event["id"]]):
            known = "with another number of rows than labels" if rows is not None else "in a form that is not read"
            joined.left_out[f"requests {known}"] += 1
            continue
        for number, (row, label) in enumerate(zip(rows, labels[event["id"]], strict=True)):
            record = _record(event, process, row, label, number if len(rows) > 1 else None, schema)
            record = redact(record) if redact is not None and record is not None else record
            if record is None:
                joined.left_out["rows without a label" if label is None else "rows that may not be kept"] += 1
                continue
            lines.append(json.dumps(record, ensure_ascii=False, sort_keys=True))
            joined.records += 1
    content = "".join(f"{line}\n" for line in sorted(lines))
    path.write_bytes(gzip.compress(content.encode(), mtime=0))
    return joined


def _labels(storage: Storage, service: str, since: datetime) -> dict[str, list[Any]]:
    """By request id the latest labels of its rows."""
    latest: dict[str, tuple[float, list[Any]]] = {}
    for key in events.keys(storage, service, since, datetime.now(since.tzinfo)):
        for event in events.read(storage, key).events:
            if event.get("kind") == "label" and isinstance(event.get("labels"), list):
                at = float(event.get("at", 0))
                if at >= latest.get(event["id"], (0.0, []))[0]:
                    latest[event["id"]] = at, event["labels"]
    return {request: labels for request, (_, labels) in latest.items()}


def _predictions(
    storage: Storage, service: str, since: datetime, until: datetime
) -> Iterator[tuple[Mapping[str, Any], events.Process]]:
    for key in events.keys(storage, service, since, until):
        segment = events.read(storage, key)
        if segment.process.role != "live":
            continue
        for event in segment.events:
            if event.get("kind") == "prediction" and since.timestamp() <= event.get("at", 0) < until.timestamp():
                yield event, segment.process


def _unusable(event: Mapping[str, Any], labels: Mapping[str, Any], seen: set[str], sample: float) -> str:
    if event.get("status") != 200:
        return "that were not answered with 200"
    if events.share(event["id"]) >= sample * events.SHARES:
        return "outside the sample"
    if event["id"] not in labels:
        return "without labels"
    if not event.get("body"):
        return "whose body was not stored"
    return "with the id of another" if event["id"] in seen else ""


def _record(
    event: Mapping[str, Any],
    process: events.Process,
    row: Mapping[str, Any],
    label: Any,
    number: int | None,
    schema: Mapping[str, Any],
) -> dict[str, Any] | None:
    if label is None:
        return None
    known = schema.get("properties", {})
    beside: dict[str, Any] = {
        "id": event["id"] if number is None else f"{event['id']}-{number}",
        "at": event["at"],
        "model": process.version,
        "predicted": (event.get("labels") or [None])[number or 0],
    }
    return {**row, **{name: value for name, value in beside.items() if name in known}, "label": label}


def _rows(body: str) -> list[dict[str, Any]] | None:
    """The rows of a request by the names of the inputs; None if it is in a form that names none."""
    try:
        request = json.loads(base64.b64decode(body, validate=True))
        if isinstance(request.get("instances"), list):
            rows = [_plain(row) for row in request["instances"]]
            return rows if all(isinstance(row, dict) for row in rows) else None
        inputs = request.get("inputs")
        if isinstance(inputs, list):
            columns = {tensor["name"]: _shaped(tensor["data"], tensor["shape"]) for tensor in inputs}
        else:
            columns = {name: _plain(values) for name, values in inputs.items()}
        count = len(next(iter(columns.values())))
        return [{name: values[i] for name, values in columns.items()} for i in range(count)]
    # Whatever a client sent, in a protocol of bytes for example.
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration, binascii.Error):
        return None


def _shaped(data: list[Any], shape: list[int]) -> list[Any]:
    """A tensor of the Open Inference Protocol as nested lists."""
    while data and isinstance(data[0], list):
        data = [value for row in data for value in row]
    values = data
    for size in reversed(shape[1:]):
        values = [values[at : at + size] for at in range(0, len(values), size)]
    if len(values) != shape[0]:
        raise ValueError("holds another number of values than its shape says")
    return values


def _plain(value: Any) -> Any:
    """A value of TensorFlow Serving's JSON, where {"b64": ...} stands for text in base64."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        if set(value) == {"b64"}:
            return base64.b64decode(value["b64"], validate=True).decode()
        return {name: _plain(item) for name, item in value.items()}
    return value
