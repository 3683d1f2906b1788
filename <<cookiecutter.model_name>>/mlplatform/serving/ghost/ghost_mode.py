"""Ghost mode in the server: what is recorded, what is copied, and what a ghost learns of the live answers.

When a request has been answered it is only put aside; fifty times a second what was put aside is written down and
copied, many requests in one turn. Code that runs once between two requests finds nothing in the core's cache and takes
several times as long: so in turns, and few steps at each request. benchmarks/ghost measures what it costs.
"""

import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import gevent
import orjson

from mlplatform.contract import events
from mlplatform.contract.events import MIRROR_RESULTS
from mlplatform.serving.ghost.event_log import CopyableRequest, EventLog, PendingEvent
from mlplatform.serving.ghost.message import MOST_BYTES
from mlplatform.serving.ghost.mirror import Mirror
from mlplatform.serving.ghost.replay import COPY_HEADER, LIVE_HEADER, Replay
from mlplatform.serving.model.service import ServedModel, Service
from mlplatform.serving.observability.predictions import Predicted, predicted
from mlplatform.serving.observability.request_record import Observer, RequestRecord
from mlplatform.telemetry.registry import EVENTS_DROPPED, GHOST_COMPARISONS, GHOST_COPIES, GHOST_COPY_SECONDS

if TYPE_CHECKING:
    from mlplatform.telemetry.metrics import Metrics

LOG = logging.getLogger("gunicorn.error")
# A request may have to wait for a whole turn, and rarer turns are longer. A pause lets others in: gevent runs what asks
# for the next turn for some milliseconds before it looks at a socket.
_TURN, _TURN_ROWS, _PAUSE_SECONDS = 64, 1024, 0.001
_GATHER_SECONDS = 0.02
# Requests put aside until there is a model, whose version events are filed under.
_MOST_WAITING = 1000
# As they stand in the WSGI environment.
_COPY, _LIVE_ANSWER = (f"HTTP_{name.upper().replace('-', '_')}" for name in (COPY_HEADER, LIVE_HEADER))
# What becomes of copies in a ghost that took them, but for those that it answered: the live service counts those.
_LOST = ("failed", "dropped")


class GhostMode:
    """Events, mirror and comparison of one process. Made after the fork."""

    def __init__(self, service: Service) -> None:
        settings = service.settings
        self._service = service
        self.log = EventLog(service)
        self.mirror = Mirror(service, self.log) if settings.role == "live" and settings.ghost_url else None
        self.replay = Replay(service, self.log) if settings.role == "ghost" else None
        self._copying = self.mirror or self.replay
        self._compared = {"same": 0, "different": 0}
        self._counted: dict[str, int] = {}
        self._bodies = settings.events_bodies
        self._pending: deque[PendingEvent] = deque()

    @property
    def observers(self) -> Sequence[Observer]:
        """Those to call after each request."""
        return (self._observe,) if self._copying or self.log.on else ()

    def start(self) -> None:
        """Begin to write and to send."""
        self.log.start()
        if self._copying:
            self._copying.start()
        if self.observers:
            gevent.spawn(self._run)

    def finish(self) -> None:
        """Send the copies that wait, so that what becomes of them is counted."""
        while self._pending and self._service.model is not None:
            self._turn(self._service.model)
        if self._copying:
            self._copying.stop()

    def stop(self) -> None:
        """Write what is left."""
        self.log.stop()

    def measure(self, metrics: "Metrics") -> None:
        """Add what has happened since the last time."""
        for result in MIRROR_RESULTS if self.mirror else _LOST if self.replay else ():
            metrics.count(GHOST_COPIES, self._new(f"mirror_{result}"), f"result:{result}")
        if self.mirror:
            metrics.distribution(GHOST_COPY_SECONDS, [*self.mirror.seconds])
            self.mirror.seconds.clear()
        for agreement, rows in self._compared.items():
            if rows:
                metrics.count(GHOST_COMPARISONS, rows, f"agreement:{agreement}")
        self._compared = dict.fromkeys(self._compared, 0)
        if self.log.on:
            metrics.count(EVENTS_DROPPED, self._new("dropped"))

    def _new(self, name: str) -> int:
        total = self.log.counters[name]
        before, self._counted[name] = self._counted.get(name, 0), total
        return total - before

    def _observe(self, record: RequestRecord) -> None:
        """Put a request aside."""
        environ, status = record.environ, record.status
        copyable: CopyableRequest | None = None
        if self.mirror and status < 500 and record.body and _COPY not in environ:
            json_length = environ.get("HTTP_INFERENCE_HEADER_CONTENT_LENGTH")
            copyable = (record.protocol, record.body, environ.get("CONTENT_TYPE"), json_length)
        self._pending.append(
            (
                record.request_id,
                record.started,
                record.finished,
                # A ghost records what it would have answered.
                200 if record.error is None else int(status),
                record.outputs,
                record.body if self._bodies else b"",
                copyable,
                environ.get(_LIVE_ANSWER) if self.replay else None,
            )
        )
        # At once, so that a kill cannot hide what it lost.
        if self.log.on:
            self.log.counters.record()

    def _run(self) -> None:
        while (model := self._service.model) is None or (self.log.on and not self.log.open):
            self._let_go()
            gevent.sleep(_GATHER_SECONDS)
        while True:
            gevent.sleep(_GATHER_SECONDS)
            self._give_way(model)
            while self._pending:
                try:
                    self._turn(model)
                except Exception:
                    LOG.exception("some requests could not be recorded, or copied for the ghost")
                if self._pending:
                    gevent.sleep(_PAUSE_SECONDS)

    def _give_way(self, model: ServedModel) -> None:
        """Let requests go first that wait for the model, for as long as is gathered."""
        end = time.monotonic() + _GATHER_SECONDS
        while model.batcher.queued_rows and not model.batcher.threaded and time.monotonic() < end:
            gevent.sleep(_PAUSE_SECONDS)

    def _let_go(self) -> None:
        """Of what is answered before there is a model keep the latest."""
        while len(self._pending) > _MOST_WAITING:
            self._pending.popleft()
            if self.log.on:
                self.log.counters.add("dropped")

    def _turn(self, model: ServedModel) -> None:
        """Write down the oldest requests, and copy those that are to be copied."""
        some: list[PendingEvent] = []
        rows = size = 0
        while self._pending and len(some) < _TURN and rows < _TURN_ROWS and size < MOST_BYTES:
            some.append(self._pending.popleft())
            rows += len(some[-1][4][0]) if some[-1][4] else 0
            size += len(some[-1][6][1]) if some[-1][6] else 0
        ids, started, finished, status, outputs, bodies, copyable, live_answers = zip(*some, strict=True)
        mirrored = self.mirror.take(ids, copyable) if self.mirror else []
        if not self.log.on and not any(mirrored) and not self.replay:
            return
        said = predicted(model, outputs)
        if self.replay:
            self._compare(model, live_answers, said)
        columns = events.columns(
            clock=time.time() - time.monotonic(),
            ids=ids,
            started=started,
            finished=finished,
            status=status,
            rows=said.rows,
            labels=said.labels,
            scores=said.scores,
            mirrored=mirrored,
            bodies=bodies if self._bodies else (),
        )
        line = orjson.dumps(columns, option=orjson.OPT_SERIALIZE_NUMPY)
        if self.log.on:
            self.log.write(line, len(some))
        if self.mirror and any(mirrored):
            if not all(mirrored) or self._bodies:
                places = [place for place, taken in enumerate(mirrored) if taken]
                line = orjson.dumps(events.chosen(columns, places), option=orjson.OPT_SERIALIZE_NUMPY)
            copies = [request for request, taken in zip(copyable, mirrored, strict=True) if taken]
            self.mirror.hand_over(line, model.manifest.id, copies)

    def _compare(self, model: ServedModel, answers: Sequence[str | None], said: Predicted) -> None:
        """Hold the ghost's labels against those of the live answers that came with the copies."""
        if model.target and not model.target.has_labels:
            return
        same = model.target.same if model.target else str.__eq__
        end = 0
        for answer, count in zip(answers, said.rows, strict=True):
            start, end = end, end + count
            if answer is None or said.labels is None:
                continue
            try:
                pairs = [*zip(orjson.loads(answer)["labels"], said.labels[start:end], strict=False)]
                compared = ["same" if same(ours, theirs) else "different" for theirs, ours in pairs]
            # Whoever may ask the ghost can send anything.
            except (ValueError, KeyError, TypeError):
                continue
            for agreement in compared:
                self._compared[agreement] += 1
