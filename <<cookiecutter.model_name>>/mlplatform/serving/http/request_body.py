"""Reading a request's body within limits."""

import zlib
from http import HTTPStatus
from typing import Any, Protocol

import orjson

from mlplatform.serving.errors import RequestError, bad_request

_WINDOW = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class Connection(Protocol):
    """What the server tells about the connection a request came on, as `environ["serving.connection"]`."""

    too_slow: bool
    """Whether the client has been cut off because it took too long to send its request."""
    refused_until: float
    """When a client that was refused for overload may come again, on the monotonic clock."""

    def body_read(self) -> None:
        """The client has sent everything; its time for sending no longer runs."""

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
    connection: Connection = environ["serving.connection"]
    declared = environ.get("CONTENT_LENGTH")
    if declared and int(declared) > most:
        raise _too_large(most)
    encoding = environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower()
    if encoding != "identity" and encoding not in _WINDOW:
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Encoding is {encoding!r}; expected gzip, deflate or identity",
            close=True,
        )
    try:
        body: bytes = environ["wsgi.input"].read(int(declared) if declared else most + 1)
    except OSError as error:
        if connection.too_slow:
            raise RequestError(HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive in time", close=True) from None
        raise RequestError(HTTPStatus.BAD_REQUEST, f"the body ended early: {error}", close=True) from None
    if len(body) > most:
        raise _too_large(most)
    connection.body_read()
    return body if encoding == "identity" else _decompress(body, encoding, most)


def _decompress(body: bytes, encoding: str, most: int) -> bytes:
    decoder = zlib.decompressobj(_WINDOW[encoding])
    try:
        plain = decoder.decompress(body, most + 1)
    except zlib.error as error:
        raise bad_request(f"the body is not {encoding}: {error}") from None
    if len(plain) > most:
        raise _too_large(most, " once decompressed")
    if not decoder.eof:
        raise bad_request(f"the {encoding} body is cut short")
    if decoder.unused_data:
        raise bad_request(f"the {encoding} body is followed by {len(decoder.unused_data)} bytes of something else")
    return plain


def _too_large(most: int, when: str = "") -> RequestError:
    return RequestError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the body is larger than {most} bytes{when}; send less at a time",
        close=True,
    )
