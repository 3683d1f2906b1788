"""Ghost mode in the server: what is noted, what is copied, and what a ghost learns of the live answers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import orjson

from artifacts.events import MIRROR_COUNTERS
from serving.events import EventLog
from serving.exchange import Exchange, Observer
from serving.mirror import Mirror
from serving.predicted import predicted_by
from serving.service import Service
from telemetry.registry import EVENTS_DROPPED, GHOST_COMPARISONS, GHOST_COPIES

if TYPE_CHECKING:
    from telemetry.metrics import Metrics


class GhostMode:
    """Events, mirror and comparison of one process. Made after the fork."""

    def __init__(self, service: Service) -> None:
        settings = service.settings
        self.log = EventLog(service)
        self.mirror = Mirror(service, self.log) if settings.role == "live" and settings.ghost_url else None
        self._is_ghost = settings.role == "ghost"
        self._compared = {"same": 0, "different": 0}
        self._told: dict[str, int] = {}

    @property
    def observers(self) -> Sequence[Observer]:
        """Who has to be told of each request."""
        return (self._observe,) if self.mirror or self._is_ghost or self.log.on else ()

    def start(self) -> None:
        """Begin to write and to send."""
        self.log.start()
        if self.mirror:
            self.mirror.start()

    def finish(self) -> None:
        """Send the copies that wait, so that what becomes of them is counted."""
        if self.mirror:
            self.mirror.stop()

    def stop(self) -> None:
        """Write what is left."""
        self.log.stop()

    def measure(self, metrics: "Metrics") -> None:
        """Add what has happened since the last time."""
        if self.mirror:
            for result in MIRROR_COUNTERS:
                if result != "offered":
                    metrics.count(GHOST_COPIES, self._new(f"mirror_{result}"), f"result:{result}")
        for agreement, rows in self._compared.items():
            if rows:
                metrics.count(GHOST_COMPARISONS, rows, f"agreement:{agreement}")
        self._compared = dict.fromkeys(self._compared, 0)
        if self.log.on:
            metrics.count(EVENTS_DROPPED, self._new("dropped"))

    def _new(self, name: str) -> int:
        total = self.log.counters[name]
        before, self._told[name] = self._told.get(name, 0), total
        return total - before

    def _observe(self, exchange: Exchange) -> None:
        mirrored = self.mirror.offer(exchange) if self.mirror else False
        if self._is_ghost:
            self._compare(exchange)
        self.log.note(exchange, mirrored)

    def _compare(self, exchange: Exchange) -> None:
        """Hold the ghost's labels against those that came with a copy."""
        told = exchange.environ.get("HTTP_X_LIVE_ANSWER")
        if told is None or (mine := predicted_by(exchange)) is None:
            return
        try:
            live = orjson.loads(told)["labels"]
        # Whoever may ask the ghost can send anything.
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return
        for theirs, ours in zip(live, mine().get("labels", ()), strict=False):
            self._compared["same" if theirs == ours else "different"] += 1
