"""`python -m serving`, with ghost mode switched on in every second quarter of a second, by the monotonic clock.

    python switched.py FILE [OPTION...]

FILE takes a line for each quarter: its number since the clock began (odd: ghost mode was on), and the processor time of
the event loop's thread in it, in seconds, without its first PART.
"""

import sys
import time
from pathlib import Path
from typing import Any

import gevent

from serving import observing
from serving.__main__ import main

QUARTER = 0.25
PART = 0.05
"""What is left out of each quarter: in it the work of the one before may be finished."""


def switch(observers: list[Any], of_ghost_mode: Any, file: Path) -> None:
    """Take part of the observers away and put them back; does not return."""
    on = list(observers)
    off = [each for each in on if each not in of_ghost_mode]
    with file.open("a") as lines:
        while True:
            number = int(time.monotonic() / QUARTER)
            observers[:] = on if number % 2 else off
            sleep_until(number * QUARTER + PART)
            begun = time.thread_time()
            sleep_until((number + 1) * QUARTER)
            lines.write(f"{number} {time.thread_time() - begun}\n")
            lines.flush()


def sleep_until(moment: float) -> None:
    while (left := moment - time.monotonic()) > 0:
        gevent.sleep(left)


class Switched(observing.Observing):
    """Observers of which those of ghost mode come and go."""

    def start(self) -> None:
        super().start()
        gevent.spawn(switch, self.observers, self._ghost.observers, Path(sys.argv[1]))


if __name__ == "__main__":
    observing.Observing = Switched  # type: ignore[misc]
    sys.exit(main(sys.argv[2:]))
