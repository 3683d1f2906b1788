"""Traffic as data: requests that the server stored, joined with the labels that came later, as records of the model.

Bodies are stored only if `events_bodies` of [serving] is on, and used only if `traffic_consent` of [data] is. A team
may define `redact(record)` in `model/`, which returns the record as it may be kept, or None if it may not.
"""

import base64
import binascii
import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from mlplatform.contract import events
from mlplatform.contract.errors import CommandError, ExitCode
from mlplatform.contract.targets import Classes, Target
from mlplatform.data.checking import media_type, says_null
from mlplatform.data.settings import DataSettings
from mlplatform.data.team import Redact
from mlplatform.store.storage import Storage


class NoConsentError(CommandError):
    """Nothing says that requests may be learned from."""

    exit_code = ExitCode.REFUSED


@dataclass
class Joined:
    """What became of the requests of a time. records: written; left_out: rows or requests by reason."""

    requests: int = 0
    records: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Row:
    """A row of a request that the live service answered.

    id: of its record, the request's and, of several rows, its number. at: seconds since 1970, UTC. version: of the
    model. predicted, score: what that said; None if it says none.
    """

    id: str
    request: str
    number: int
    inputs: Mapping[str, Any]
    at: float
    version: str
    predicted: Any
    score: float | None

    def record(self, schema: Mapping[str, Any], truth: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The row as a record: with `id`, `at`, `model` and `predicted`, if the schema has these properties.

        An input that was missing is null where the schema says so, and absent elsewhere.
        truth: by the name of each target, if it is known.
        """
        beside = {"id": self.id, "at": self.at, "model": self.version, "predicted": self.predicted}
        properties = schema.get("properties", {})
        known = {name: value for name, value in beside.items() if name in properties}
        null = {name for name, column in properties.items() if says_null(column, schema, 0)}
        absent = dict.fromkeys(null.intersection(schema.get("required", ())))
        given = {name: value for name, value in self.inputs.items() if value is not None or name in null}
        return {**absent, **given, **known, **(truth or {})}


def check_consent(settings: DataSettings) -> None:
    """Raises NoConsentError unless the settings say that requests may be learned from."""
    if not settings.traffic_consent:
        raise NoConsentError(
            "traffic_consent of [data] is false; set it to true in service.toml if those who send the requests have "
            "agreed that models learn from them"
        )


def write_records(
    storage: Storage,
    service: str,
    since: datetime,
    until: datetime,
    schema: Mapping[str, Any],
    path: Path,
    sample: float = 1.0,
    redact: Redact | None = None,
    by_hand: Set[str] = frozenset(),
    target: Target | None = None,
) -> Joined:
    """Write the labelled rows that a live service answered between two moments (UTC) as a .jsonl.gz file of records.

    Labels that came after `until` count as well. schema: `model.RECORD`. sample: share of the requests, always the
    same ones. by_hand: ids of records that people labelled, which are records already. target: the model's; None: a
    label. The same events give the same bytes. Raises EventsError or StorageError.
    """
    labels = request_labels(storage, service, since)
    target = target or Classes("label", ())
    joined = Joined()
    lines = []

    def why_not(event: Mapping[str, Any]) -> str:
        return "outside the sample" if outside(event, sample) else "" if event["id"] in labels else "without labels"

    for rows in requests(storage, service, since, until, joined, why_not, encoded(schema)):
        given = labels[rows[0].request]
        if len(rows) != len(given):
            joined.left_out["requests with another number of rows than labels"] += 1
            continue
        for row, value in zip(rows, given, strict=True):
            known = target.known(value)
            truth = {} if known is None else target.in_record(known)
            labelled = len(truth) == len(target.parts)
            if not labelled or row.id in by_hand:
                joined.left_out["rows labelled by hand" if labelled else "rows without a label"] += 1
                continue
            made = row.record(schema, truth)
            record = redact(made) if redact is not None else made
            if record is None:
                joined.left_out["rows that may not be kept"] += 1
                continue
            lines.append(json.dumps(record, ensure_ascii=False, sort_keys=True))
            joined.records += 1
    content = "".join(f"{line}\n" for line in sorted(lines))
    path.write_bytes(gzip.compress(content.encode(), mtime=0))
    return joined


def requests(
    storage: Storage,
    service: str,
    since: datetime,
    until: datetime,
    joined: Joined,
    why_not: Callable[[Mapping[str, Any]], str],
    as_base64: Set[str] = frozenset(),
) -> Iterator[Sequence[Row]]:
    """The rows, one at least, of each request that the live service answered between two moments (UTC).

    why_not: why an event is not wanted, or an empty text. as_base64: inputs of bytes, see `encoded`. Those left out are
    counted. Raises EventsError, StorageError.
    """
    seen: set[str] = set()
    for event, process in predictions(storage, service, since, until, "live"):
        joined.requests += 1
        reason = _unusable(event, seen) or why_not(event)
        rows = None if reason else _rows(event["body"], as_base64)
        if not rows:
            joined.left_out[f"requests {reason or 'in a form that is not read'}"] += 1
            continue
        seen.add(event["id"])
        yield [_row(event, process, inputs, number, len(rows)) for number, inputs in enumerate(rows)]


def encoded(schema: Mapping[str, Any]) -> frozenset[str]:
    """The properties of `model.RECORD` that hold bytes, in base64."""
    return frozenset(name for name, column in schema.get("properties", {}).items() if media_type(column, schema))


def request_labels(storage: Storage, service: str, since: datetime) -> dict[str, list[Any]]:
    """By request id the latest labels of its rows that came as feedback."""
    latest: dict[str, tuple[float, list[Any]]] = {}
    for key in events.keys(storage, service, since, datetime.now(since.tzinfo)):
        for event in events.read(storage, key).events:
            if event.get("kind") == "label" and isinstance(event.get("labels"), list):
                at = float(event.get("at", 0))
                if at >= latest.get(event["id"], (0.0, []))[0]:
                    latest[event["id"]] = at, event["labels"]
    return {request: labels for request, (_, labels) in latest.items()}


def predictions(
    storage: Storage, service: str, since: datetime, until: datetime, role: str
) -> Iterator[tuple[Mapping[str, Any], events.Process]]:
    """The answers of a role, live or ghost, between two moments (UTC)."""
    for key in events.keys(storage, service, since, until):
        segment = events.read(storage, key)
        if segment.process.role != role:
            continue
        for event in segment.events:
            if event.get("kind") == "prediction" and since.timestamp() <= event.get("at", 0) < until.timestamp():
                yield event, segment.process


def outside(event: Mapping[str, Any], sample: float) -> bool:
    """Whether a request is not among a share of all, always the same ones."""
    return events.share(event["id"]) >= sample * events.SHARES


def _unusable(event: Mapping[str, Any], seen: set[str]) -> str:
    if event.get("status") != 200:
        return "that were not answered with 200"
    if not event.get("body"):
        return "whose body was not stored"
    return "with the id of another" if event["id"] in seen else ""


def _row(event: Mapping[str, Any], process: events.Process, inputs: Mapping[str, Any], number: int, count: int) -> Row:
    said = {name: (event.get(name) or [])[number : number + 1] for name in ("labels", "scores")}
    return Row(
        id=event["id"] if count == 1 else f"{event['id']}-{number}",
        request=event["id"],
        number=number,
        inputs=inputs,
        at=event["at"],
        version=process.version,
        predicted=next(iter(said["labels"] or said["scores"]), None),
        score=said["scores"][0] if said["scores"] else None,
    )


def _rows(body: str, as_base64: Set[str]) -> list[dict[str, Any]] | None:
    """The rows of a request by the names of the inputs; None if it is in a form that names none."""

    def plain(row: Any) -> Any:
        named = isinstance(row, dict)
        return {name: _plain(value, name in as_base64) for name, value in row.items()} if named else row

    try:
        request = json.loads(base64.b64decode(body, validate=True))
        if isinstance(request.get("instances"), list):
            rows = [plain(row) for row in request["instances"]]
            return rows if all(isinstance(row, dict) for row in rows) else None
        inputs = request.get("inputs")
        if isinstance(inputs, list):
            columns = {tensor["name"]: _shaped(tensor["data"], tensor["shape"]) for tensor in inputs}
        else:
            columns = plain(inputs)
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


def _plain(value: Any, as_base64: bool) -> Any:
    """A value of TensorFlow Serving's JSON, where {"b64": ...} stands for text, or for bytes that stay in base64."""
    if isinstance(value, list):
        return [_plain(item, as_base64) for item in value]
    if isinstance(value, dict) and set(value) == {"b64"}:
        return value["b64"] if as_base64 else base64.b64decode(value["b64"], validate=True).decode()
    return value
