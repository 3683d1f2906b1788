"""Copies of requests on their way from the live service to a ghost, many in one message.

POST of PATH, application/octet-stream, with SENT_HEADER: one block after the other. A block is HEAD_SIZES, a head in
JSON, and the bodies of the copies, one after the other. In the head `columns` is what is recorded of the requests (see
contract/events.py), `version` is the model's that answered, and `requests` has protocol, Content-Type or null,
Inference-Header-Content-Length or null, and length of the body for each of them.
"""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from mlplatform.contract.events import is_request_id, rows
from mlplatform.serving.ghost.event_log import CopyableRequest

PATH = "/v1/ghost/copies"
SENT_HEADER = "X-Sent-At"
"""When the message left, on the clock of `finished` in its columns: the ghost's clocks may be others."""
HEAD_SIZES = struct.Struct("!II")
"""Begins a block: bytes that follow, bytes of its head."""
MOST_BYTES = 1 << 20
"""Of the bodies in a block, but for the last one, and of a message, but for its last block."""
_PROTOCOLS = ("v1", "v2")
# What is read of a head takes so many times its bytes: 25 bytes of JSON are a label of 50 bytes and a float of 24.
_TIMES = 4


class Copy(NamedTuple):
    """A request for the ghost. event: what the live service has recorded of it; see mlplatform/contract/events.py.

    answered: seconds on the live service's monotonic clock. content_type, json_length: headers. size: bytes of memory.
    """

    answered: float
    event: Mapping[str, Any]
    version: str
    protocol: str
    content_type: str | None
    json_length: str | None
    body: bytes
    size: int


def pack(columns: bytes, version: str, copies: Sequence[CopyableRequest]) -> list[bytes]:
    """A block, in parts. columns: a line that holds just the copies."""
    bodies = [body for _, body, _, _ in copies]
    head = orjson.dumps(
        {
            "columns": orjson.Fragment(columns),
            "version": version,
            # Clients may send headers with tabs or worse.
            "requests": [
                (
                    protocol,
                    kind if _is_plain(kind) else None,
                    json_length if _is_plain(json_length) else None,
                    len(body),
                )
                for protocol, body, kind, json_length in copies
            ],
        }
    )
    size = len(head) + sum(map(len, bodies))
    return [HEAD_SIZES.pack(size, len(head)) + head, *bodies]


def _is_plain(header: object) -> bool:
    """Whether it may be the value of a header in a message, or None for a header that is not there."""
    return header is None or (isinstance(header, str) and header.isprintable())


def unpack(message: bytes) -> list[Copy]:
    """The copies of a message. Raises ValueError if it is none."""
    try:
        return list(_unpack(message))
    except (struct.error, LookupError, TypeError, ArithmeticError, orjson.JSONDecodeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _unpack(message: bytes) -> Iterator[Copy]:
    at = 0
    while at < len(message):
        size, head_size = HEAD_SIZES.unpack_from(message, at)
        at += HEAD_SIZES.size
        end = at + size
        if end > len(message) or head_size > size:
            raise ValueError("it is cut short")
        yield from _copies(message[at : at + head_size], memoryview(message)[at + head_size : end])
        at = end


def _copies(head: bytes, bodies: memoryview) -> Iterator[Copy]:
    read = orjson.loads(head)
    columns, requests, version = read["columns"], read["requests"], read["version"]
    at = 0
    for event, finished, request in zip(rows(columns), columns["finished"], requests, strict=True):
        protocol, content_type, json_length, size = request
        plain = _is_plain(content_type) and _is_plain(json_length)
        if protocol not in _PROTOCOLS or not is_request_id(event["id"]) or not plain:
            raise ValueError(f"its copy {event['id']!r} is not one of a request")
        if type(size) is not int or not 0 <= size <= len(bodies) - at or not math.isfinite(finished):
            raise ValueError("its head does not fit its bodies")
        body = bytes(bodies[at : at + size])
        memory = size + _TIMES * len(head) // len(requests)
        yield Copy(finished, event, str(version), protocol, content_type, json_length, body, memory)
        at += size
