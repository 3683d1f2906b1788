"""Counts of events and of copies for a ghost, in memory that others read and that outlives the process."""

from typing import Any

from mlplatform.contract.events import EVENT_COUNTERS, MIRROR_COUNTERS

# `recorded` is the first.
_NAMES = (*EVENT_COUNTERS, *(f"mirror_{name}" for name in MIRROR_COUNTERS))
_PLACES = {name: place for place, name in enumerate(_NAMES)}
COUNTERS_BYTES = 8 * 16


class Counters:
    """Counts that a process raises at every request, and that others read, also when it is gone.

    memory: writable, COUNTERS_BYTES at least; None for counts of one process.
    """

    def __init__(self, memory: Any = None) -> None:
        self._memory = memoryview(memory if memory is not None else bytearray(COUNTERS_BYTES)).cast("B")
        self._memory = self._memory[:COUNTERS_BYTES]
        self._cells = self._memory.cast("Q")

    def record(self) -> None:
        """Raise `recorded` by one: of every request, so the fewest steps."""
        self._cells[0] += 1

    def add(self, name: str, number: int = 1) -> None:
        """Raise a counter: one of EVENT_COUNTERS, or of MIRROR_COUNTERS after `mirror_`."""
        self._cells[_PLACES[name]] += number

    def __getitem__(self, name: str) -> int:
        return int(self._cells[_PLACES[name]])

    def take_over(self, other: "Counters") -> None:
        """Add what another one has counted."""
        for place in _PLACES.values():
            self._cells[place] += other._cells[place]

    def event(self, at: float, killed: bool) -> dict[str, Any]:
        """As an event; see events.py."""
        return {
            "kind": "counters",
            "at": round(at, 3),
            "killed": killed,
            "events": {name: self[name] for name in EVENT_COUNTERS},
            "mirror": {name: self[f"mirror_{name}"] for name in MIRROR_COUNTERS},
        }

    def release(self) -> None:
        """Let go of the memory."""
        self._cells.release()
        self._memory.release()
