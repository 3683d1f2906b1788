"""Which workers of this server have a model: known to all of them, so that one that is still loading stands back."""

import mmap
import os
from contextlib import suppress

_SLOTS = 256
_BYTES = 4


class ReadyWorkers:
    """Process ids in memory that the master makes and its workers share."""

    def __init__(self) -> None:
        self._cells = memoryview(mmap.mmap(-1, _SLOTS * _BYTES)).cast("I")

    def add(self, pid: int) -> None:
        """A worker has its model. It need not be taken out again: one that has ended does not count."""
        # Ids of processes that run at the same time are seldom equal here; then one of them is not seen.
        self._cells[pid % _SLOTS] = pid

    def remove(self, pid: int) -> None:
        """A worker takes no new work, because it is stopping."""
        if self._cells[pid % _SLOTS] == pid:
            self._cells[pid % _SLOTS] = 0

    def any(self) -> bool:
        """Whether some worker has a model and runs."""
        return any(_runs(pid) for pid in self._cells.tolist() if pid)


def _runs(pid: int) -> bool:
    with suppress(OSError):
        os.kill(pid, 0)
        return True
    return False
