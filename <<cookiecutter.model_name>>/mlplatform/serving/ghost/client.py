"""HTTP POSTs from a gevent worker: of messages to a ghost, and of copies that a ghost asks of itself.

On the standard library's client, which gevent makes give way to other greenlets once the worker has patched `socket`.
"""

import time
from collections.abc import Iterable, Mapping
from http.client import HTTPConnection, HTTPException, RemoteDisconnected

import gevent
from gevent import socket

# Of an answer's body; whatever is longer ends the connection.
_MOST_BODY_BYTES = 8192


class NoAnswerError(Exception):
    """The other side did not answer, or not in HTTP; the message says why."""


class Client:
    """Posts to one address, over a connection that is opened when it is needed and kept until `close`.

    seconds: time limit of a POST. cpu_seconds: processor time that sending and reading took so far.
    """

    def __init__(self, host: str, port: int, seconds: float) -> None:
        self._connection = HTTPConnection(host, port)
        self._seconds = seconds
        self.cpu_seconds = 0.0

    def post(self, path: str, body: bytes | Iterable[bytes], headers: Mapping[str, str | bytes]) -> int:
        """The status of the answer. Raises NoAnswerError within the time limit, whatever the other side does.

        body: in pieces only on a new connection, as it can be gone through but once; then with Content-Length among
        the headers.
        """
        kept = self._connection.sock is not None
        try:
            # A socket's own time limit holds for each read, not for the answer, and not for finding the address.
            with gevent.Timeout(self._seconds, TimeoutError):
                try:
                    return self._post(path, body, headers)
                except (RemoteDisconnected, ConnectionError):
                    # The other side may have closed what was idle, and never have seen the request.
                    if not kept:
                        raise
                    self.close()
                    return self._post(path, body, headers)
        except TimeoutError:
            self.close()
            raise NoAnswerError(f"no answer within {self._seconds:g} s") from None
        except (OSError, HTTPException) as error:
            self.close()
            raise NoAnswerError(str(error) or type(error).__name__) from None

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def _post(self, path: str, body: bytes | Iterable[bytes], headers: Mapping[str, str | bytes]) -> int:
        if self._connection.sock is None:
            self._connection.connect()
        begun = time.thread_time()
        self._connection.request("POST", path, body, headers)
        sent = time.thread_time()
        # Waits here, where others have their turn, so that only this one's own time is counted.
        socket.wait_read(self._connection.sock.fileno())
        answered = time.thread_time()
        response = self._connection.getresponse()
        response.read(_MOST_BODY_BYTES)
        if not response.isclosed():
            self.close()
        self.cpu_seconds += sent - begun + time.thread_time() - answered
        return response.status
