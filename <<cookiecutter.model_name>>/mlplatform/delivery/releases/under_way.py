"""The mark that a release of an environment is under way, and what is needed to take it back should it be cut off.

    releases/under-way/<environment>.json       the mark: made before the first change, deleted when all is recorded
    releases/under-way/<environment>.alive      rewritten every BEAT_SECONDS by the process that releases

Of two releases of one environment at once the second finds the mark and is refused. A mark whose process is gone was
left by a command that was killed, or that could not reach the cluster any more: the next command takes it over.
"""

import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mlplatform.delivery.errors import UnderWayError
from mlplatform.delivery.pods import Object
from mlplatform.delivery.releases.history import Entry
from mlplatform.delivery.releases.objects import Snapshot
from mlplatform.store.errors import MissingKeyError, StorageError
from mlplatform.store.manifest import ArtifactError
from mlplatform.store.storage import Storage

PREFIX = "releases/under-way/"
BEAT_SECONDS = 10.0
# A process on another machine that has not rewritten its .alive by then is gone.
SILENT_SECONDS = 30.0
# The release is known to be good, and only remains to be recorded; before that it may have changed anything.
CHANGING, GOOD, GIVEN_UP = "changing", "good", "given up"


@dataclass(frozen=True)
class Mark:
    """A release that is under way. production: the version that was recorded before; owner: the process."""

    entry: Entry
    phase: str
    planned: Sequence[Object]
    before: Sequence[Object]
    version_before: str
    production: str | None
    owner: str

    @property
    def snapshot(self) -> Snapshot:
        """The objects before it."""
        return Snapshot(self.planned, self.before)

    def said(self) -> str:
        """The release in words."""
        entry = self.entry
        return f"the {entry.action} of {entry.model} to {entry.environment} by {entry.by}, begun {entry.at[:19]}"


class UnderWay:
    """A mark in the store that this process holds."""

    def __init__(self, store: Storage, mark: Mark, identity: str) -> None:
        self.store = store
        self.mark = mark
        self._identity = identity
        self._ended = threading.Event()
        self._beats = threading.Thread(target=self._beat, daemon=True)
        self._beats.start()

    def now(self, phase: str, entry: Entry | None = None) -> None:
        """Note how far the release is. Raises StorageError, UnderWayError if another process has taken it over."""
        mark = replace(self.mark, phase=phase, entry=entry or self.mark.entry)
        if not self.store.replace(_key(mark.entry.environment), _encoded(mark), self._identity):
            raise UnderWayError(f"another command took over {self.mark.said()}")
        self.mark, self._identity = mark, self.store.identity(_key(mark.entry.environment))

    def end(self) -> None:
        """All is recorded. Raises StorageError."""
        self.leave()
        for key in (_key(self.mark.entry.environment), _alive(self.mark.entry.environment)):
            self.store.delete(key)

    def leave(self) -> None:
        """The next command finds the mark and takes it over."""
        self._ended.set()
        self._beats.join()

    def _beat(self) -> None:
        while True:
            # A beat that the store does not take is followed by others.
            with suppress(StorageError):
                self.store.write(_alive(self.mark.entry.environment), secrets.token_bytes(8))
            if self._ended.wait(BEAT_SECONDS):
                return


@contextmanager
def begin(
    store: Storage, entry: Entry, taken: Snapshot, version_before: str, production: str | None
) -> Iterator[UnderWay]:
    """Mark a release as under way. Raises UnderWayError if another one is, and StorageError.

    What is not ended within is left for the next command.
    """
    mark = Mark(entry, CHANGING, taken.planned, taken.before, version_before, production, this_process())
    key = _key(entry.environment)
    if not store.create(key, _encoded(mark)):
        raise UnderWayError(f"another release of {entry.environment} has just begun; try again when it has ended")
    held = UnderWay(store, mark, store.identity(key))
    try:
        yield held
    finally:
        held.leave()


def marks(store: Storage) -> list[Mark]:
    """The releases that are under way or were left behind, by environment. Raises StorageError or ArtifactError."""
    left = []
    for key in [key for key in store.keys(PREFIX) if key.endswith(".json")]:
        # It may have ended meanwhile.
        with suppress(MissingKeyError):
            left.append(_decoded(store, key, store.read(key)))
    return left


def take_over(store: Storage, mark: Mark) -> UnderWay:
    """Hold a mark that was left behind. Raises UnderWayError if another command does already, and StorageError."""
    key = _key(mark.entry.environment)
    with suppress(MissingKeyError):
        identity = store.identity(key)
        mine = replace(mark, owner=this_process())
        if _decoded(store, key, store.read(key)) == mark and store.replace(key, _encoded(mine), identity):
            return UnderWay(store, mine, store.identity(key))
    raise UnderWayError(f"another command is finishing {mark.said()}; try again when it has ended")


def alive(store: Storage, mark: Mark) -> bool:
    """Whether the process that made a mark still works at it. Of another machine's it takes SILENT_SECONDS to know."""
    if mark.phase == GIVEN_UP:
        return False
    machine, _, process = mark.owner.partition(" ")
    if machine == this_process().partition(" ")[0]:
        return _started(process.partition(" ")[0]) == process.partition(" ")[2]
    before, end = _beaten(store, mark), time.monotonic() + SILENT_SECONDS
    while time.monotonic() < end:
        time.sleep(1)
        if _beaten(store, mark) != before:
            return True
    return False


def this_process() -> str:
    """The machine since it was started, this process, and when that was started: no other one is ever the same."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # Processes of another container of the machine have numbers of their own.
        space = Path("/proc/self/ns/pid").readlink()
        return f"{platform.node()}/{boot}/{space} {os.getpid()} {_started(str(os.getpid()))}"
    return f"{platform.node()}/{secrets.token_hex(8)} {os.getpid()} unknown"


def _started(process: str) -> str:
    """When a process of this machine was started; empty if it is gone."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *rest = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else rest[18]


def _beaten(store: Storage, mark: Mark) -> str:
    with suppress(MissingKeyError):
        return store.identity(_alive(mark.entry.environment))
    return ""


def _key(environment: str) -> str:
    return f"{PREFIX}{environment}.json"


def _alive(environment: str) -> str:
    return f"{PREFIX}{environment}.alive"


def _encoded(mark: Mark) -> bytes:
    return json.dumps(asdict(mark), indent=1, ensure_ascii=False).encode() + b"\n"


def _decoded(store: Storage, key: str, content: bytes) -> Mark:
    try:
        fields: dict[str, Any] = json.loads(content)
        return Mark(**{**fields, "entry": Entry(**fields["entry"])})
    except (ValueError, TypeError, KeyError) as error:
        raise ArtifactError(f"{store.url}/{key}: not the mark of a release ({error})") from None
