"""What is answered when a request cannot be."""

from http import HTTPStatus
from math import ceil


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
    def headers(self) -> list[tuple[str, str]]:
        """Headers that belong to the error: Retry-After in whole seconds, Connection when the body was left unread."""
        headers = [("Retry-After", str(self.retry_after))] if self.retry_after else []
        return [*headers, ("Connection", "close")] if self.close else headers


class OverloadedError(RequestError):
    """A 503 at once instead of an answer after `wait` seconds."""

    def __init__(self, wait: float) -> None:
        reason = f"overloaded: the wait would be {1000 * wait:.0f} ms"
        super().__init__(HTTPStatus.SERVICE_UNAVAILABLE, reason, retry_after=max(1, ceil(wait)))


def bad_request(reason: str) -> RequestError:
    """A 400."""
    return RequestError(HTTPStatus.BAD_REQUEST, reason)
