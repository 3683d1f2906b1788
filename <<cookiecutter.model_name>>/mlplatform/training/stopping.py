"""Stopping on SIGTERM and Ctrl-C: at once where nothing is lost, after saving where training is under way."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(BaseException):
    """The process was told to stop; what is done is kept.

    Not an Exception, so that no handler for mere failures on the way swallows it.
    """


class Stop:
    """Whether this process was told to stop."""

    def __init__(self) -> None:
        self.asked = False
        self._deferred = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within this block SIGTERM and SIGINT raise Stopped; the handlers from before are put back afterwards."""
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within this block a signal only sets `asked`; the block looks at it and calls `obey` when it has saved."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def obey(self) -> None:
        """Raise Stopped if the process was told to stop."""
        if self.asked:
            raise Stopped

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if not self._deferred:
            raise Stopped
