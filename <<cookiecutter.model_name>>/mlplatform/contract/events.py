"""Prediction events: what the server records of each request, for the report on a ghost. This is their whole format.

    events/<service>/<UTC date>/<UTC time>-<role>-<process>-<number>.jsonl.gz

is one segment: gzip over lines of JSON objects in UTF-8. The first line says who wrote it, each other one is an event:

    {"kind": "process", "format": 1, "service", "role", "version", "host", "process"}
        role: live, ghost, or feedback for labels that came as a file. version: of the model, empty if it holds labels
        only. host: name of the pod or machine. process: a name that no other process has.
    {"kind": "prediction", "at", "id", "status", "ms", "labels", "scores", "mirrored", "body"}
        A predict request that was answered. at: seconds since 1970, UTC. id: X-Request-ID. status: of HTTP; a ghost
        notes what it would have answered. ms: from the request's headers to its answer. labels: per row the label
        predicted, its tags as a JSON array in order, or its vector (targets/vector_notes.py, 176 characters at most);
        scores: per row its probability, the mean of all tags', a vector's similarity to the mean one, or the value that
        a model without labels predicts; both absent without a prediction. Of several targets a label is a
        JSON object as text, by target [label or null, score], and the score that of the first. mirrored: true if a copy
        went into the queue for a ghost. body: the request's, base64, only if [serving] events_bodies is on.
    {"kind": "label", "at", "id", "labels"}
        What the rows of a request really were, labels, identities, tags or values, of several targets a JSON object as
        text; null where it is not known. The latest one of an id counts.
    {"kind": "usage", "at", "of", "seconds", "cpu_seconds", "left_out_cpu_seconds", "memory_bytes", "requests"}
        What was used in the last so many seconds: of a container (working set, all its processes) or of this process.
        left_out_cpu_seconds: what this process took of it for what a live service would not do, which is to take
        copies up and to ask them of itself.
    {"kind": "counters", "at", "killed", "events": {...}, "mirror": {...}}
        Counts since the process began, the latest one of a process counts; see EVENT_COUNTERS, MIRROR_COUNTERS.
        killed: the process ended without its own last line; whoever found its spool wrote this one.

Readers ignore fields and kinds they do not know; a field that changes its meaning raises `format`. An event never holds
an input, or anything else of a request's body, unless `body` is switched on.

A server writes the predictions of a few milliseconds as one line of columns, which costs it a third of what lines of
their own do. What ships them makes such lines again, so that none of these reaches the store:

    {"kind": "predictions", "clock", "id", "started", "finished", "status", "rows", "labels", "scores", "mirrored",
     "body"}
        clock: seconds to add to started and finished (from the headers to the answer). rows: of each request that was
        predicted; labels and scores hold those of all requests, one after the other. The other fields but the clock
        have one value a request; mirrored, body, labels or scores are absent where no request has any.
"""

import base64
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from typing import Any, TypeGuard

from mlplatform.store.storage import Storage

FORMAT = 1
PREFIX = "events"
ENDING = ".jsonl.gz"

EVENT_COUNTERS = ("recorded", "written", "dropped")
"""Of events: taken up; written to a file; dropped, as the queue was full. What is missing was lost with a process."""

MIRROR_RESULTS = ("sent", "refused", "failed", "skipped", "dropped")
"""What may become of copies for a ghost."""

MIRROR_COUNTERS = ("offered", *MIRROR_RESULTS)
"""Of copies for a ghost: put into the queue; the ghost took them, with a 202; it answered with another status; it did
not answer, or not in HTTP; not tried, after failures before; dropped, as the queue was full. What is missing was still
waiting. The ghost itself counts as offered all copies that it took; as sent those that it predicted; as failed those
that it did not, in time; as dropped those that its queue had no place for."""


_COLUMNS = b'{"kind":"predictions"'

REQUEST_ID_HEADER = "X-Request-ID"
LONGEST_ID = 128
SHARES = 2**32
"""`share(id)` is below SHARES; so many of SHARES are sampled where it is below a bound."""


class EventsError(ValueError):
    """A segment cannot be read; the message says which and why."""


@dataclass(frozen=True)
class Process:
    """Who wrote a segment; see the first line of the format."""

    service: str
    role: str
    version: str
    host: str
    process: str

    def header(self) -> dict[str, Any]:
        """The first line of a segment."""
        return {"kind": "process", "format": FORMAT, **vars(self)}


@dataclass(frozen=True)
class Segment:
    """Events of one process, in the order they were written. damaged: lines that are no JSON object."""

    key: str
    process: Process
    events: tuple[Mapping[str, Any], ...]
    damaged: int


def is_request_id(given: object) -> TypeGuard[str]:
    """Whether it may be an X-Request-ID: 1 to 128 printable ASCII characters."""
    return isinstance(given, str) and 0 < len(given) <= LONGEST_ID and given.isascii() and given.isprintable()


def share(id: str) -> int:
    """Where a request lies among all, 0 to SHARES - 1: whoever samples below a bound takes the same ones."""
    return zlib.crc32(id.encode())


def key(process: Process, number: int, started: datetime) -> str:
    """Where a segment belongs that was begun at a moment (UTC)."""
    name = f"{started:%H%M%S}-{process.role}-{process.process}-{number:06d}{ENDING}"
    return f"{PREFIX}/{process.service}/{started:%Y-%m-%d}/{name}"


def pack(lines: bytes) -> bytes:
    """Lines as the content of a segment; the same lines always give the same bytes."""
    # Level 6 is a quarter of 9's time for 1 % more bytes.
    return gzip.compress(lines, 6, mtime=0)


def columns(
    clock: float,
    ids: Sequence[str],
    started: Sequence[float],
    finished: Sequence[float],
    status: Sequence[int],
    rows: Sequence[int],
    labels: Sequence[str] | None,
    scores: Any,
    mirrored: Sequence[bool],
    bodies: Sequence[bytes],
) -> dict[str, Any]:
    """A line of columns. scores: an array of (rows,), or None. mirrored, bodies: empty if no request has any."""
    line: dict[str, Any] = {
        # The first one: by it `in_rows` knows the line.
        "kind": "predictions",
        "clock": clock,
        "id": ids,
        "started": started,
        "finished": finished,
        "status": status,
        "rows": rows,
    }
    if labels is not None:
        line["labels"] = labels
    if scores is not None:
        line["scores"] = scores
    if any(mirrored):
        line["mirrored"] = mirrored
    if bodies:
        line["body"] = [base64.b64encode(body).decode() for body in bodies]
    return line


def chosen(columns: Mapping[str, Any], places: Iterable[int]) -> dict[str, Any]:
    """A line of columns with some of its requests, and without their bodies."""
    ends = [0, *accumulate(columns["rows"])]
    places = list(places)
    line = {"kind": columns["kind"], "clock": columns["clock"]}
    for name in ("id", "started", "finished", "status", "rows"):
        line[name] = [columns[name][place] for place in places]
    for name in ("labels", "scores"):
        if name in columns:
            line[name] = [value for place in places for value in columns[name][ends[place] : ends[place + 1]]]
    return line


def rows(columns: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A line of columns as the events that it stands for."""
    first = 0
    for place, count in enumerate(columns["rows"]):
        yield row(columns, place, first)
        first += count


def row(columns: Mapping[str, Any], place: int, first: int) -> dict[str, Any]:
    """The event at a place in a line of columns. first: where its labels and scores begin."""
    started, finished = columns["started"][place], columns["finished"][place]
    event: dict[str, Any] = {
        "kind": "prediction",
        "at": round(columns["clock"] + finished, 3),
        "id": columns["id"][place],
        "status": columns["status"][place],
        "ms": round(1000 * (finished - started), 3),
    }
    if count := columns["rows"][place]:
        if "labels" in columns:
            event["labels"] = columns["labels"][first : first + count]
        if "scores" in columns:
            scores = columns["scores"][first : first + count]
            # A value may be of any size; nine digits are all of a float32.
            event["scores"] = (
                [round(s, 6) for s in scores] if "labels" in columns else [float(f"{s:.9g}") for s in scores]
            )
    if "mirrored" in columns and columns["mirrored"][place]:
        event["mirrored"] = True
    if "body" in columns and columns["body"][place]:
        event["body"] = columns["body"][place]
    return event


def in_rows(lines: bytes) -> bytes:
    """Lines of a spool as those of a segment: each event has a line of its own. Damaged ones stay as they are."""
    return b"\n".join(_in_rows(lines.split(b"\n")))


def _in_rows(lines: Iterable[bytes]) -> Iterator[bytes]:
    for line in lines:
        if not line.startswith(_COLUMNS):
            yield line
            continue
        try:
            events = [*rows(json.loads(line))]
        except (ValueError, LookupError, TypeError):
            yield line
        else:
            yield from (json.dumps(event, ensure_ascii=False).encode() for event in events)


def read_header(line: bytes, origin: str) -> Process:
    """The first line of a segment. Raises EventsError naming `origin` if it is not one that can be read."""
    try:
        header = json.loads(line)
        if header["kind"] != "process":
            raise ValueError("the first line is of another kind")
        version = header["format"]
        names = ("service", "role", "version", "host", "process")
        process = Process(**{name: str(header[name]) for name in names})
    except (ValueError, KeyError, TypeError) as error:
        raise EventsError(f"{origin}: not a segment of events ({type(error).__name__}: {error})") from None
    if version != FORMAT:
        raise EventsError(f"{origin}: events of format {version!r}; this code reads {FORMAT}: update the repository")
    return process


def read(storage: Storage, key: str) -> Segment:
    """A segment of the store. Raises EventsError, MissingKeyError or StorageError."""
    origin = f"{storage.url}/{key}"
    try:
        lines = gzip.decompress(storage.read(key)).splitlines()
    except (OSError, EOFError) as error:
        raise EventsError(f"{origin}: not gzip, or cut short ({error})") from None
    process = read_header(lines[0] if lines else b"", origin)
    parsed = [_parse(line) for line in lines[1:] if line]
    events = tuple(event for event in parsed if event is not None)
    return Segment(key, process, events, len(parsed) - len(events))


def keys(storage: Storage, service: str, since: datetime, until: datetime) -> Iterator[str]:
    """The segments of a service that may hold events between two moments (UTC). Raises StorageError."""
    # A segment is filed under the day it was begun on, a moment before its last event.
    day, last = (since - timedelta(hours=1)).astimezone(UTC).date(), until.astimezone(UTC).date()
    while day <= last:
        yield from (key for key in storage.keys(_directory(service, day)) if key.endswith(ENDING))
        day += timedelta(days=1)


def _directory(service: str, day: date) -> str:
    return f"{PREFIX}/{service}/{day:%Y-%m-%d}/"


def _parse(line: bytes) -> Mapping[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None
