"""The way of events from a server to the store: a directory on the server's machine, bounded, and what empties it.

    <directory>/<process>.state               the process's counters and name, in memory that outlives a kill
    <directory>/<process>.new                 its state while it is being made
    <directory>/<process>-<number>-<time>.open    a segment being written: lines as they are, not compressed
    <directory>/<process>-<number>-<time>.jsonl   a whole one, ready to be shipped

A process holds a lock on its state; when that is free the process is dead, and what it left is whole again but for a
last line. ship.py ships it: beside the server in a container of its own, because that
one lives on when the server is killed, needs boto3 and credentials where the server needs neither, and makes lines of
columns (see events.py) and compresses them on CPU that is not the server's.
"""

import fcntl
import json
import mmap
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from mlplatform.contract import events
from mlplatform.contract.events import Process
from mlplatform.ghost.counters import COUNTERS_BYTES, Counters
from mlplatform.store.storage import Storage

# A segment is shipped when it is that old or large: so much is lost with the machine, and one object on S3 costs as
# much as 4 MB of them.
SEGMENT_SECONDS = 10.0
SEGMENT_BYTES = 4 << 20
EVERY_SECONDS = 5.0
_LOOK_SECONDS = 1.0

_STATE_BYTES = 4096
_HEADER_AT = COUNTERS_BYTES
_TIME = "%Y%m%d%H%M%S"


class SpoolWriter:
    """What one process writes into a spool. Raises OSError if it cannot be made; later faults are counted as dropped.

    most_bytes: of the whole directory, whoever wrote it; beyond it new events are dropped.
    """

    def __init__(self, directory: Path, process: Process, most_bytes: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._process = process
        self._most_bytes = most_bytes
        self._number = 0
        self._segment: Path | None = None
        self._file: BinaryIO | None = None
        self._size = 0
        self._opened = 0.0
        self._used = 0
        self._looked = -_LOOK_SECONDS
        self._state = directory / f"{process.process}.state"
        partial = directory / f"{process.process}.new"
        self._state_file = partial.open("w+b")
        # Locked before it can be seen: a state without a lock is that of a dead process.
        fcntl.flock(self._state_file, fcntl.LOCK_EX)
        self._state_file.truncate(_STATE_BYTES)
        self._map = mmap.mmap(self._state_file.fileno(), _STATE_BYTES)
        header = json.dumps(process.header()).encode()
        self._map[_HEADER_AT : _HEADER_AT + len(header) + 1] = header + b"\n"
        self.counters = Counters(self._map)
        partial.rename(self._state)

    def has_space(self, more: int, share: float = 1.0) -> bool:
        """Whether so many bytes more fit into this share of the directory's bound.

        Looks at the directory once a second, as that takes longer than writing, and adds up in between.
        """
        bound = share * self._most_bytes
        now = time.monotonic()
        if now - self._looked >= _LOOK_SECONDS or self._used + more > bound:
            self._used, self._looked = _bytes_in(self._directory), now
        return self._used + more <= bound

    def write(self, lines: bytes, count: int) -> bool:
        """Append whole lines that hold so many events; False if they are dropped instead."""
        try:
            if not self.has_space(len(lines)):
                raise OSError(f"{self._directory} is full")
            self._open().write(lines)
        except OSError:
            self.counters.add("dropped", count)
            return False
        self.counters.add("written", count)
        self._size += len(lines)
        self._used += len(lines)
        return True

    def roll(self, now: float, force: bool = False) -> None:
        """Finish a segment that is large or old enough; its last line are the counters. now: on the monotonic clock."""
        if self._file is None or self._segment is None:
            return
        if not force and self._size < SEGMENT_BYTES and now - self._opened < SEGMENT_SECONDS:
            return
        with suppress(OSError):
            self._file.write(_line(self.counters.event(time.time(), killed=False)))
        with suppress(OSError):
            self._file.close()
            self._segment.rename(self._segment.with_suffix(".jsonl"))
        self._file = self._segment = None

    def close(self) -> None:
        """The process ends well: nothing is left but whole segments."""
        with suppress(OSError):
            self._open()
        self.roll(0, force=True)
        self._state.unlink(missing_ok=True)
        self.counters.release()
        self._map.close()
        self._state_file.close()

    def _open(self) -> BinaryIO:
        if self._file is None:
            self._number += 1
            name = f"{self._process.process}-{self._number:06d}-{datetime.now(UTC).strftime(_TIME)}.open"
            self._segment = self._directory / name
            # Unbuffered: what is written is the kernel's, and stays when the process is killed.
            self._file = self._segment.open("ab", buffering=0)
            self._size, self._opened = 0, time.monotonic()
            self._file.write(_line(self._process.header()))
        return self._file


@dataclass(frozen=True)
class Shipped:
    """What one pass did. killed: of each process found dead, its name, and its counters as an event."""

    segments: int
    killed: tuple[tuple[str, dict[str, Any]], ...]


def ship(storage: Storage, directory: Path) -> Shipped:
    """Move every whole segment into the store, those of dead processes included. Raises StorageError, EventsError."""
    killed = tuple(_recover(directory))
    count = 0
    for path in sorted(directory.glob("*.jsonl")):
        content = path.read_bytes()
        process = events.read_header(content.partition(b"\n")[0], str(path))
        _, number, moment = path.stem.rsplit("-", 2)
        started = datetime.strptime(moment, _TIME).replace(tzinfo=UTC)
        # Twice is no harm: the same key, the same content.
        storage.write(events.key(process, int(number), started), events.pack(events.in_rows(content)))
        path.unlink()
        count += 1
    return Shipped(count, killed)


def _recover(directory: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Finish what dead processes left."""
    for state in sorted(directory.glob("*.state")):
        with suppress(FileNotFoundError), state.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            content = bytearray(file.read())
            header = bytes(content[_HEADER_AT:]).partition(b"\n")[0]
            process = events.read_header(header, str(state))
            event = Counters(content).event(time.time(), killed=True)
            left = sorted(directory.glob(f"{process.process}-*.open"))
            if left:
                _finish(left[-1], event)
            else:
                name = f"{process.process}-999999-{datetime.now(UTC).strftime(_TIME)}"
                (directory / f"{name}.open").write_bytes(header + b"\n" + _line(event))
                (directory / f"{name}.open").rename(directory / f"{name}.jsonl")
            state.unlink()
            yield process.process, event


def _finish(segment: Path, event: dict[str, Any]) -> None:
    """Make a segment whole that its process was writing when it was killed."""
    content = segment.read_bytes()
    segment.write_bytes(content[: content.rfind(b"\n") + 1] + _line(event))
    segment.rename(segment.with_suffix(".jsonl"))


def _bytes_in(directory: Path) -> int:
    total = 0
    for entry in os.scandir(directory):
        # One that is shipped at this moment is not there any more.
        with suppress(FileNotFoundError):
            total += entry.stat().st_size
    return total


def _line(event: dict[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode() + b"\n"
