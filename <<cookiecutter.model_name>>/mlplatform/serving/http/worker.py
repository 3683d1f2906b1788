"""gunicorn's gevent worker with connections of our own, and a stop that loses no request."""

import logging
import math
import socket
import sys
import time
from typing import Any

import gevent
from gevent import monkey
from gevent import socket as gevent_socket
from gunicorn.workers.ggevent import VERSION, GeventWorker

from mlplatform.serving.errors import BOOT_ERROR
from mlplatform.serving.http.connection import Application, Shared
from mlplatform.serving.http.connections import Connections
from mlplatform.serving.http.request_head import Environ

LOG = logging.getLogger("gunicorn.error")
_TICK = 0.1


class Worker(GeventWorker):  # type: ignore[misc]
    """Serves until SIGTERM; drains for a while; finishes what is in flight; ends."""

    drain_until = math.inf
    alive: bool
    sockets: list[Any]

    def patch(self) -> None:
        """Make blocking calls give way to other greenlets; but leave child processes alone, which are not ours.

        gevent's subprocess works on the main thread only, and TensorFlow's import, on another, asks `uname`.
        """
        monkey.patch_all(os=False, signal=False, subprocess=False)
        self.sockets = [
            gevent_socket.socket(listener.FAMILY, socket.SOCK_STREAM, fileno=listener.sock.detach())
            for listener in self.sockets
        ]

    def handle_exit(self, sig: int, frame: object) -> None:
        """SIGTERM: not ready from now on, and draining. A second one ends the draining."""
        self.drain_until = time.monotonic() + (self.app.settings.drain_seconds if self.alive else 0)
        self.alive = False

    def run(self) -> None:
        """Serve. Exits with BOOT_ERROR if the model turns out to be unusable."""
        settings = self.app.settings
        application = Application(self.wsgi, self.app.directly)
        shared = Shared(settings, application, self._environ(), lambda: not self.alive)
        connections = Connections(settings, shared)
        accepting = [
            gevent.spawn(connections.accept, listener, self.app.service.stands_back) for listener in self.sockets
        ]
        while time.monotonic() < self.drain_until:
            self._tick(connections)
            if self.app.service.fatal:
                LOG.error("error: %s", self.app.service.fatal)
                sys.exit(BOOT_ERROR)
        self.app.service.take_no_more()
        gevent.killall(accepting)
        for listener in self.sockets:
            connections.accept_backlog(listener)
            listener.close()
        end = time.monotonic() + settings.finish_seconds
        while connections.open and time.monotonic() < end:
            # First let those have their turn whose requests have come.
            self._tick(connections)
            connections.close_idle()
        if connections.open:
            LOG.warning("%d requests were not finished in %g s", len(connections.open), settings.finish_seconds)

    def _tick(self, connections: Connections) -> None:
        self.notify()
        connections.tick()
        gevent.sleep(_TICK)

    def _environ(self) -> Environ:
        """What is the same in the WSGI environment of every request."""
        settings = self.app.settings
        return {
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": settings.workers > 1,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
            "SERVER_SOFTWARE": VERSION,
            "SERVER_NAME": settings.host,
            "SERVER_PORT": str(settings.port),
            "SCRIPT_NAME": "",
        }
