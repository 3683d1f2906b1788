"""What is answered when a request cannot be."""

from http import HTTPStatus
from math import ceil

import orjson

BOOT_ERROR = 3
"""Exit code of a worker that makes gunicorn give up instead of starting it anew."""

_STATUS_LINES = {status: f"{status.value} {status.phrase}" for status in HTTPStatus}


class RequestError(Exception):
    """A request gets an error for an answer; `reason` is one sentence for the person who sent it.

    retry_after: seconds until it is worth asking again, 0 if that is not known.
    """

    def __init__(self, status: HTTPStatus, reason: str, retry_after: int = 0, close: bool = False) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after
        self.close = close

    @property
    def body(self) -> bytes:
        """The answer: `{"error": reason}`."""
        return orjson.dumps({"error": self.reason})

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Headers that belong to the error: Retry-After in whole seconds, Connection when the body was left unread."""
        headers = [("Retry-After", str(self.retry_after))] if self.retry_after else []
        return [*headers, ("Connection", "close")] if self.close else headers


class OverloadedError(RequestError):
    """A 503 at once instead of an answer after `wait` seconds."""

    def __init__(self, wait: float) -> None:
        reason = f"overloaded: the wait would be {1000 * wait:.0f} ms"
        super().__init__(HTTPStatus.SERVICE_UNAVAILABLE, reason, retry_after=max(1, ceil(wait)))


def status_line(status: HTTPStatus) -> str:
    """Such as `404 Not Found`."""
    return _STATUS_LINES[status]


def bad_request(reason: str) -> RequestError:
    """A 400."""
    return RequestError(HTTPStatus.BAD_REQUEST, reason)
