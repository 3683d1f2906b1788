"""From the bytes of a connection to requests. httptools (llhttp, which Node.js has) parses; the limits are here."""

from collections import deque
from http import HTTPStatus

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from mlplatform.serving.errors import RequestError

LARGEST_HEAD = 1 << 16
_LONGEST_LINE = 8190
_MOST_HEADERS = 100  # also trailers
# What chunks may have around them: some, and so much for each byte of the body.
_FRAMING, _FRAMING_PER_BYTE = 1 << 16, 16


class Request:
    """A request as far as it has come. Its head is complete; `body` grows until `complete`.

    keep_alive: whether the client wants to ask more. content_length: set by who checks the headers; None without one.
    size: bytes so far, in all.
    """

    # Class attributes: an __init__ that sets them all takes longer, at every request.
    method = b""
    target = b""
    version = ""
    keep_alive = False
    content_length: int | None = None
    body: bytes | bytearray = b""
    complete = False
    size = 0

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []


class RequestParser:
    """Makes requests of what it is fed.

    requests: those whose head has come; the last may be incomplete. error: why there will be no more.
    """

    def __init__(self) -> None:
        self.requests: deque[Request] = deque()
        self.error: RequestError | None = None
        self._coming = Request()
        # Of its head; then the trailers, which only count.
        self._fields = self._coming.headers
        self._received = 0
        self._parser = HttpRequestParser(self)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the connection; of no more than one request if they are more than LARGEST_HEAD."""
        left = data
        # Also for a request that only begins in these bytes: they are all that it can have.
        self._received = len(data)
        self._coming.size += len(data)
        while left:
            try:
                self._parser.feed_data(left)
                left = b""
            except HttpParserUpgrade as upgrade:
                # Offered, and not taken: what follows is HTTP/1.1 as before.
                self._parser = HttpRequestParser(self)
                left = left[upgrade.args[0] :]
            except HttpParserError as error:
                left = b""
                self.error = self.error or _broken(HTTPStatus.BAD_REQUEST, str(error))
        coming = self._coming
        if not coming.complete and coming.size > LARGEST_HEAD + _FRAMING_PER_BYTE * len(coming.body):
            self.error = self.error or _broken(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too much but its body")

    # What httptools calls.

    def on_message_begin(self) -> None:
        """A request begins."""
        self._coming = Request()
        self._coming.size = self._received
        self._fields = self._coming.headers

    def on_url(self, part: bytes) -> None:
        """A part of the target."""
        self._coming.target += part
        if len(self._coming.target) > _LONGEST_LINE:
            self._refuse(HTTPStatus.REQUEST_URI_TOO_LONG, "the target is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer behind the body."""
        fields = self._fields
        fields.append((name, value))
        if len(fields) > _MOST_HEADERS:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too many headers")

    def on_headers_complete(self) -> None:
        """The head is here."""
        coming, parser = self._coming, self._parser
        self._check_lengths()
        self._fields = []
        coming.method = parser.get_method()
        coming.version = parser.get_http_version()
        coming.keep_alive = parser.should_keep_alive()
        self.requests.append(coming)

    def on_body(self, part: bytes) -> None:
        """A part of the body."""
        coming = self._coming
        if not coming.body:
            # Nearly always the whole.
            coming.body = part
        elif isinstance(coming.body, bytearray):
            coming.body += part
        else:
            coming.body = bytearray(coming.body) + part

    def on_message_complete(self) -> None:
        """The request is here."""
        if self._fields:
            self._check_lengths()
        self._coming.complete = True

    def _check_lengths(self) -> None:
        # Nearly always what has come is not long enough for that in all.
        if (
            self._coming.size > _LONGEST_LINE
            and max(len(name) + len(value) for name, value in self._fields) > _LONGEST_LINE
        ):
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too long a header")

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self.error = _broken(status, reason)
        raise self.error


def _broken(status: HTTPStatus, reason: str) -> RequestError:
    return RequestError(status, f"not a valid HTTP request: {reason}", close=True)
