"""Stopping on SIGTERM and Ctrl-C: at once where nothing can be lost, at the next safe point elsewhere.

Imports nothing that takes time, so that a command listens from its first moment on.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from mlplatform.config.hints import hint
from mlplatform.contract.errors import ExitCode

# The commands that listen. All others end as Python does.
STOPPABLE = ("train", "gather")
SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Outcomes that stand although a stop was asked for: the work was finished before anybody looked.
FINISHED = (ExitCode.DONE, ExitCode.GATE_CLOSED)


class Stopped(BaseException):
    """The process was told to stop; what is done is kept.

    Not an Exception, so that no handler for mere failures on the way swallows it.
    """


class Stop:
    """Whether this process was told to stop; `asked` says so.

    command: what the person who stopped it typed; the last line names it, as it resumes the work.
    """

    def __init__(self, command: str = "train") -> None:
        self.asked = False
        self._command = command
        self._deferred = 0
        self._before_the_end: list[Callable[[], None]] = []

    @property
    def deferring(self) -> bool:
        """Whether a signal is only noted at present."""
        return self._deferred > 0

    def listen(self) -> None:
        """From now on SIGTERM and SIGINT end this process with ExitCode.STOPPED, at once unless `deferred`.

        No exception is raised where the signal arrives: TensorFlow's C++ turns one into another that looks like a
        failure, and a library may swallow it.
        """
        for number in SIGNALS:
            signal.signal(number, self._handle)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """As `listen` within this block; the handlers from before are put back afterwards."""
        before = {number: signal.getsignal(number) for number in SIGNALS}
        self.listen()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within this block a signal only sets `asked`; the block looks at it and calls `obey` where all is saved."""
        self._deferred += 1
        try:
            yield
        finally:
            self._deferred -= 1

    @contextmanager
    def before_the_end(self, act: Callable[[], None]) -> Iterator[None]:
        """Within this block, `act` is called before a signal ends the process. It has to be quick."""
        self._before_the_end.append(act)
        try:
            yield
        finally:
            self._before_the_end.remove(act)

    def obey(self) -> None:
        """Raise Stopped if the process was told to stop: a safe point, where nothing is lost."""
        if self.asked:
            raise Stopped

    def say(self) -> None:
        """Print that the command was stopped, and what resumes it."""
        line = f"{self._command}: stopped; the same command resumes this run: {hint(self._command)}\n"
        # Past Python's buffer, which the code that a signal interrupted may be writing to.
        with suppress(Exception):
            sys.stdout.flush()
        with suppress(Exception):
            os.write(sys.stderr.fileno(), line.encode())

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if self.deferring:
            return
        for act in reversed(self._before_the_end):
            with suppress(Exception):
                act()
        self.say()
        # Not sys.exit, which is an exception, and which waits for threads: an upload in one of them may take minutes.
        os._exit(ExitCode.STOPPED)


def carry_out(stop: Stop, run: Callable[[], int]) -> int:
    """Run a command that signals stop, and return its exit code.

    Whatever it raises or returns after a stop was asked for is the stop, unless the work was finished.
    """
    with stop.listening():
        try:
            code = run()
        except (Stopped, Exception):
            if not stop.asked:
                raise
            code = ExitCode.STOPPED
        if stop.asked and code not in FINISHED:
            stop.say()
            return ExitCode.STOPPED
        return code
