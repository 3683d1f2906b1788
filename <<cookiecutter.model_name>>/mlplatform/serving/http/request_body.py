"""A request's body: its content coding, and JSON."""

import zlib
from http import HTTPStatus
from typing import Any, Protocol

import orjson

from mlplatform.serving.errors import RequestError, bad_request
from mlplatform.serving.http.header_values import shorten

_WINDOW = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_MEMBERS = 1024


class Sender(Protocol):
    """Who has sent a request, as `environ["serving.connection"]`; see ClientConnection."""

    refused_until: float

    def read_body(self, most: int) -> bytes:
        """The body as it was sent. Raises RequestError (400, 408, 413)."""

    def gone(self) -> bool:
        """Whether the client has hung up."""


def parse_json(text: bytes | memoryview) -> Any:
    """A body, or the part of it that is JSON. Raises RequestError (400)."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"the body is not JSON: {error}") from None


def read_body(environ: dict[str, Any], most: int) -> bytes:
    """The whole body, decompressed, of at most `most` bytes.

    Raises RequestError: 400 broken or cut short, 408 too slow, 413 too large (also once decompressed), 415 unknown
    Content-Encoding.
    """
    sender: Sender = environ["serving.connection"]
    encoding = environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower()
    if encoding != "identity" and encoding not in _WINDOW:
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Encoding is {shorten(encoding)!r}; expected gzip, deflate or identity",
        )
    body = sender.read_body(most)
    return body if encoding == "identity" else _decompress(body, encoding, most)


def _decompress(body: bytes, encoding: str, most: int) -> bytes:
    """All members of a gzip body, one after the other, as RFC 1952 has them; or the one stream of a deflate body."""
    plain = bytearray()
    left = body
    for _ in range(_MEMBERS if encoding != "deflate" else 1):
        decoder = zlib.decompressobj(_WINDOW[encoding])
        try:
            plain += decoder.decompress(left, most + 1 - len(plain))
        except zlib.error as error:
            raise bad_request(f"the body is not {encoding}: {error}") from None
        if len(plain) > most:
            raise RequestError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the body is larger than {most} bytes once decompressed; send less at a time",
            )
        if not decoder.eof:
            raise bad_request(f"the {encoding} body is cut short")
        left = decoder.unused_data
        if not left.startswith(b"\x1f\x8b"):
            break
    if left:
        raise bad_request(f"the {encoding} body is followed by {len(left)} bytes of something else")
    return bytes(plain)
