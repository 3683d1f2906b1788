"""The metrics of all workers of a server, for /metrics: whichever of them is asked answers for all.

Each worker keeps a file of what it has counted since its start, in a folder that the master makes. When one ends, the
master adds its counts to those of the workers that ended before, so that a count never falls.
"""

import json
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlplatform.telemetry.metrics import Distributions, Values
from mlplatform.telemetry.openmetrics import Totals

_ENDED = "ended.json"
# Counts of ended workers come into their file and vanish from their own; whoever reads in between begins again.
_ATTEMPTS = 20


class SharedTotals:
    """The folder. Made by the master; `close` removes it."""

    def __init__(self) -> None:
        memory = Path("/dev/shm")  # noqa: S108
        place = memory if os.access(memory, os.W_OK) else None
        self._folder = Path(tempfile.mkdtemp(prefix=f"metrics-{os.getpid()}-", dir=place))

    def write(self, pid: int, totals: Totals) -> None:
        """Keep what a worker has counted. A folder that is full or gone leaves what was there."""
        with suppress(OSError):
            self._replace(f"{pid}.json", totals.dump())

    def ended(self, pid: int) -> None:
        """Add what a worker had counted to the counts of those that ended; for the master alone."""
        own = self._folder / f"{pid}.json"
        with suppress(OSError):
            counted = Totals.load(_read(own))
            before = self._folder / _ENDED
            totals = Totals.load(_read(before)) if before.exists() else Totals()
            totals.add(counted)
            totals.gauges = {}
            self._replace(_ENDED, totals.dump() | {"last": own.name})
            own.unlink()

    def totals(self) -> Totals:
        """Of all workers; gauges have a label `pid`. Raises OSError if the folder cannot be read."""
        for _ in range(_ATTEMPTS):
            with suppress(FileNotFoundError):
                return self._sum()
        return self._sum()

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _sum(self) -> Totals:
        total = Totals()
        names = sorted(path.name for path in self._folder.glob("*.json"))
        last = ""
        if _ENDED in names:
            ended = _read(self._folder / _ENDED)
            total, last = Totals.load(ended), str(ended["last"])
        for name in names:
            if name not in (_ENDED, last):
                total.add(Totals.load(_read(self._folder / name)), f"pid:{name.removesuffix('.json')}")
        return total

    def _replace(self, name: str, content: dict[str, Any]) -> None:
        part = self._folder / f"{name}.part"
        part.write_text(json.dumps(content), encoding="utf-8")
        part.replace(self._folder / name)


class WorkerTotals:
    """What one worker has counted, kept where the others find it. A Receiver of Metrics."""

    def __init__(self, shared: SharedTotals) -> None:
        self._shared = shared
        self._totals = Totals()

    def take(self, counts: Values, gauges: Values, distributions: Distributions) -> None:
        """See Receiver."""
        self._totals.take(counts, gauges, distributions)
        self._shared.write(os.getpid(), self._totals)


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_bytes())
    return content
