"""`python -m mlplatform.ghost.keep_shipping DIRECTORY`: runs `ship-events`, and starts it again whenever it ends.

The first process of the container beside a server. A container that has ended makes its pod unready, and with it a
server that is well; so this one does not end, whatever becomes of the process that ships. It uses little memory and
nothing but the standard library.
"""

import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType

# Begins the line that is printed when the process that ships has ended by itself; `deploy` looks for it.
ENDED = "events: the process that ships them ended"
# Of the process that ships, so that it fails by itself before the kernel kills the whole container.
MOST_BYTES = 160 << 20
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code of the last process that shipped, after SIGTERM."""
    command = [sys.executable, "-m", "mlplatform", "ship-events", *arguments]
    ended = threading.Event()
    child: subprocess.Popen[bytes] | None = None

    def stop(number: int, frame: FrameType | None) -> None:
        ended.set()
        if child:
            child.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    wait, code = FIRST_WAIT_SECONDS, 0
    while not ended.is_set():
        began = time.monotonic()
        child = subprocess.Popen(command, preexec_fn=_limit)  # noqa: S603
        if ended.is_set():
            # The signal came before there was a process to pass it on to.
            child.terminate()
        code = child.wait()
        if ended.is_set():
            break
        if time.monotonic() - began > LONGEST_WAIT_SECONDS:
            wait = FIRST_WAIT_SECONDS
        why = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        print(f"{ENDED} {why}; started again in {wait:g} s", file=sys.stderr, flush=True)
        ended.wait(wait)
        wait = min(2 * wait, LONGEST_WAIT_SECONDS)
    # One that was not yet far enough to be told to end has not shipped the last events.
    return subprocess.call([*command, "--once"], preexec_fn=_limit) if code else code  # noqa: S603


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
