"""Copies of requests on their way from the live service to a ghost, many in one message.

POST of PATH, application/octet-stream, with SENT_HEADER: one bundle after the other. A bundle is HEAD_SIZES, a head in
JSON, and the bodies of the copies, one after the other. In the head `columns` holds the copies among other requests, as
those that are mirrored (see artifacts/events.py), `version` is the model's that answered, and `requests` has protocol,
Content-Type or null, Inference-Header-Content-Length or null, and length of the body for each copy.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from artifacts.events import is_request_id
from serving.events import Asked

PATH = "/v1/ghost/copies"
SENT_HEADER = "X-Sent-At"
"""When the message left, on the clock of `finished` in its columns: the ghost's clocks may be others."""
HEAD_SIZES = struct.Struct("!III")
"""Begins a bundle: bytes that follow, copies, bytes of its head."""
MOST_BYTES = 1 << 20
"""Of the bodies in a bundle, but for the last one, and of a message, but for its last bundle."""
_PROTOCOLS = ("v1", "v2")


def _is_plain(text: object) -> bool:
    return isinstance(text, str) and text.isprintable()


class Copy(NamedTuple):
    """A request for the ghost. columns, place, first_row: where what was answered stands; see artifacts/events.py.

    answered: seconds on the live service's monotonic clock. content_type, json_length: headers.
    """

    answered: float
    columns: Mapping[str, Any]
    place: int
    first_row: int
    version: str
    protocol: str
    content_type: str | None
    json_length: str | None
    body: bytes


def pack(columns: bytes, version: str, copies: Sequence[Asked]) -> list[bytes]:
    """A bundle, in parts. columns: a line that holds the copies as those that are mirrored."""
    bodies = [body for _, body, _, _ in copies]
    head = orjson.dumps(
        {
            "columns": orjson.Fragment(columns),
            "version": version,
            "requests": [(protocol, kind, json_length, len(body)) for protocol, body, kind, json_length in copies],
        }
    )
    size = len(head) + sum(map(len, bodies))
    return [HEAD_SIZES.pack(size, len(copies), len(head)) + head, *bodies]


def unpack(message: bytes) -> list[Copy]:
    """The copies of a message. Raises ValueError if it is none."""
    try:
        return list(_unpack(message))
    except (struct.error, LookupError, TypeError, orjson.JSONDecodeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _unpack(message: bytes) -> Iterator[Copy]:
    at = 0
    while at < len(message):
        size, _, head_size = HEAD_SIZES.unpack_from(message, at)
        at += HEAD_SIZES.size
        end = at + size
        if end > len(message) or head_size > size:
            raise ValueError("it is cut short")
        yield from _copies(orjson.loads(message[at : at + head_size]), memoryview(message)[at + head_size : end])
        at = end


def _copies(head: Mapping[str, Any], bodies: memoryview) -> Iterator[Copy]:
    columns, requests = head["columns"], iter(head["requests"])
    row = at = 0
    for place, (count, mirrored) in enumerate(zip(columns["rows"], columns["mirrored"], strict=True)):
        if mirrored:
            protocol, content_type, json_length, size = next(requests)
            if size > len(bodies) - at:
                raise ValueError("its head does not fit its bodies")
            # They become headers.
            texts = [text for text in (content_type, json_length) if text is not None]
            if protocol not in _PROTOCOLS or not is_request_id(columns["id"][place]) or not all(map(_is_plain, texts)):
                raise ValueError(f"its copy {place} is not one of a request")
            body = bytes(bodies[at : at + size])
            answered = float(columns["finished"][place])
            yield Copy(answered, columns, place, row, str(head["version"]), protocol, content_type, json_length, body)
            at += size
        row += count
