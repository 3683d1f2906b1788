"""All connections of a process: accepted, limited in number, and ended when their time is over.

At the limit an idle connection is closed for a new one: whoever holds connections without asking anything can neither
keep others out nor health checks from being answered.
"""

import errno
import resource
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from wsgiref.handlers import format_date_time

import gevent
from gevent import monkey
from gevent import socket as gevent_socket

from mlplatform.serving.http.connection import ClientConnection, Shared, State

# Accepted at once; then those have their turn that are open.
_BATCH = 32
# Beyond the limit, for when all are being answered.
_RESERVE = 64
_OTHER_FILES = 256
_PAUSE_SECONDS = 0.05
_SETTLE_SECONDS = 1.0
_WAIT_FOR_CLIENT = (State.WAITING, State.HEAD, State.BODY, State.CLOSING)
_plain_socket = monkey.get_original("socket", "socket")
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Connections:
    """The open connections. settings: ServingSettings. shared: what they are told."""

    def __init__(self, settings: Any, shared: Shared) -> None:
        self.shared = shared
        self.open: set[ClientConnection] = set()
        self._most = settings.max_connections
        self._most_of_address = settings.max_connections_per_address
        self._of_address: Counter[str] = Counter()
        # Of several workers each takes one at a time, so that they share.
        self._batch = _BATCH if settings.workers == 1 else 1
        _allow_files(self._most + _RESERVE + _OTHER_FILES)

    def accept(self, listener: gevent_socket.socket, stands_back: Callable[[], bool]) -> None:
        """Take connections for ever. stands_back: whether they are for another worker."""
        listener.settimeout(0)
        hub = gevent.get_hub()
        waiting = hub.loop.io(listener.fileno(), 1)
        while True:
            hub.wait(waiting)
            if stands_back():
                gevent.sleep(_PAUSE_SECONDS)
            else:
                self._accept_some(listener)

    def accept_backlog(self, listener: gevent_socket.socket) -> None:
        """Take the connections that wait in the kernel: closing the listener would reset them."""
        end = time.monotonic() + _SETTLE_SECONDS
        while self._accept_some(listener) and time.monotonic() < end:
            gevent.sleep(0)

    def tick(self) -> None:
        """Cut the connections whose time is over. To be called several times a second."""
        self.shared.date = format_date_time(time.time())
        now = time.monotonic()
        for connection in [c for c in self.open if c.deadline < now]:
            connection.cut()

    def close_idle(self) -> None:
        """Close connections that have asked for nothing for a while: one just opened may have its request under way."""
        settled = time.monotonic() - _SETTLE_SECONDS
        for connection in [c for c in self.open if c.state == State.WAITING and c.idle_since < settled]:
            connection.close()

    def _accept_some(self, listener: gevent_socket.socket) -> int:
        """Take some of the connections that wait in the kernel; how many."""
        for count in range(self._batch):
            if len(self.open) >= self._most + _RESERVE and not self._make_room():
                gevent.sleep(_PAUSE_SECONDS)
                return count
            try:
                client, address = listener.accept()
            except BlockingIOError:
                return count
            except OSError as error:
                # Or it has gone meanwhile.
                if error.errno in _EXHAUSTED:
                    self._make_room()
                    gevent.sleep(_PAUSE_SECONDS)
                return count
            self._take(client, address)
        return self._batch

    def _take(self, client: gevent_socket.socket, address: tuple[Any, ...]) -> None:
        host = str(address[0])
        full = 0 < self._most_of_address <= self._of_address[host]
        if full and not self._make_room(host):
            client.close()
            return
        if len(self.open) >= self._most:
            self._make_room()
        # The connection waits by itself; gevent's socket would look at each call whether it has to.
        plain = _plain_socket(fileno=client.detach())
        plain.setblocking(False)
        connection = ClientConnection(plain, address, self.shared)
        self.open.add(connection)
        self._of_address[host] += 1
        gevent.spawn(self._serve, connection)

    def _make_room(self, host: str = "") -> bool:
        """Close the connection that has waited longest for its client, if one does: whether that makes room.

        First those that are done, then those that never asked. host: only those from this address.
        """
        waiting = [c for c in self.open if c.state in _WAIT_FOR_CLIENT and host in ("", c.address)]
        if not waiting:
            return False
        longest = min(waiting, key=_worth)
        longest.close()
        self._forget(longest)
        return True

    def _serve(self, connection: ClientConnection) -> None:
        try:
            connection.serve()
        finally:
            self._forget(connection)

    def _forget(self, connection: ClientConnection) -> None:
        if connection in self.open:
            self.open.remove(connection)
            self._of_address[connection.address] -= 1
            if not self._of_address[connection.address]:
                del self._of_address[connection.address]


def _worth(connection: ClientConnection) -> tuple[bool, bool, float]:
    """The order in which connections are closed to make room."""
    return connection.state != State.CLOSING, connection.answered > 0, connection.idle_since


def _allow_files(wanted: int) -> None:
    """Let this process have so many files open, as far as it may decide that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
