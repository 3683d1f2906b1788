"""`python -m mlplatform serve`, with ghost mode switched on in some phases of the monotonic clock; see phases.py.

    python switched.py FILE SECONDS [OPTION...]

SECONDS: of a phase. FILE takes a line for each: its number since the clock began, and the processor time of the event
loop's thread in it, in seconds, without the part that is left out.
"""

import sys
import time
from pathlib import Path
from typing import Any

import gevent
from phases import LEFT_OUT, is_on

from mlplatform.cli import main
from mlplatform.serving.observability import observers


def switch(watching: list[Any], of_ghost_mode: Any, file: Path, seconds: float) -> None:
    """Take part of the observers away and put them back; does not return."""
    on = list(watching)
    off = [observer for observer in on if observer not in of_ghost_mode]
    with file.open("a") as lines:
        while True:
            number = int(time.monotonic() / seconds)
            watching[:] = on if is_on(number) else off
            sleep_until((number + LEFT_OUT) * seconds)
            begun = time.thread_time()
            sleep_until((number + 1) * seconds)
            lines.write(f"{number} {time.thread_time() - begun}\n")
            lines.flush()


def sleep_until(moment: float) -> None:
    while (left := moment - time.monotonic()) > 0:
        gevent.sleep(left)


class Switched(observers.Observers):
    """Observers of which those of ghost mode come and go."""

    def start(self) -> None:
        super().start()
        gevent.spawn(switch, self.all, self._ghost.observers, Path(sys.argv[1]), float(sys.argv[2]))


if __name__ == "__main__":
    observers.Observers = Switched  # type: ignore[misc]
    sys.exit(main(["serve", *sys.argv[3:]]))
