"""Copies of requests in the ghost: they are asked of this server itself, over HTTP, at the pace of the requests.

All of a message at once would keep each other waiting, and the ghost would look slow. They wait in a queue that is
bounded in number and bytes and throws the oldest away; a few greenlets ask for them over connections that they keep.
"""

import json
import logging
import math
import time
from heapq import heappop, heappush
from itertools import count
from typing import Any

import gevent
import orjson
from gevent.lock import Semaphore

from mlplatform.contract.events import REQUEST_ID_HEADER
from mlplatform.serving.errors import bad_request
from mlplatform.serving.ghost.client import Client, NoAnswerError
from mlplatform.serving.ghost.event_log import EventLog
from mlplatform.serving.ghost.message import SENT_HEADER, Copy, unpack
from mlplatform.serving.model.service import Service

LOG = logging.getLogger("gunicorn.error")
COPY_HEADER = "X-Ghost"
"""Marks a copy; its value is 1."""
LIVE_HEADER = "X-Live-Answer"
"""What the live service answered: JSON with version, ms, and labels and scores of the first rows."""

# So long after its answer a copy is asked: messages come five times a second, and what is late comes with others.
_AGE_SECONDS = 0.4
_LOOK_SECONDS = 0.02
# Rows of the live answer that the ghost's server gets with a copy, for its own metrics; the report compares all.
_ROWS_PASSED_ON = 32


class Replay:
    """The queue and what empties it. Made after the fork; used from the event loop only.

    log: its counters count what becomes of the copies, and it learns what this costs, which the model would not live.
    """

    def __init__(self, service: Service, log: EventLog) -> None:
        settings = service.settings
        self._settings = settings
        self._log = log
        # By when they are due: messages of several live services overlap.
        self._queue: list[tuple[float, int, Copy]] = []
        self._numbers = count()
        self._bytes = 0
        self._busy = 0
        self._ready = Semaphore(0)
        # Held by who waits for the time of the oldest copy.
        self._pace = Semaphore(1)
        self._host = "127.0.0.1" if settings.host == "0.0.0.0" else settings.host  # noqa: S104
        self._paths = {"v1": f"/v1/models/{service.name}:predict", "v2": f"/v2/models/{service.name}/infer"}

    def start(self) -> None:
        """Begin to ask."""
        for _ in range(self._settings.ghost_connections):
            gevent.spawn(self._ask_all)

    def stop(self) -> None:
        """Count what waits as dropped."""
        self._log.counters.add("mirror_dropped", len(self._queue) + self._busy)

    def take(self, message: bytes, sent_at: str | None) -> None:
        """Take up the copies of a message. sent_at: see SENT_HEADER. Raises RequestError (400)."""
        begun, now = time.thread_time(), time.monotonic()
        try:
            sent = float(sent_at or "")
            if not math.isfinite(sent):
                raise ValueError(f"{SENT_HEADER} is {sent_at}")
            copies = unpack(message)
        except ValueError as error:
            raise bad_request(f"the body holds no copies of requests: {error}") from None
        self._log.counters.add("mirror_offered", len(copies))
        for copy in copies:
            while self._queue and (
                len(self._queue) >= self._settings.ghost_queue
                or self._bytes + copy.size > self._settings.ghost_queue_bytes
            ):
                self._bytes -= heappop(self._queue)[2].size
                self._log.counters.add("mirror_dropped")
                # Its permit: left behind, a million of them would keep the event loop for a second.
                self._ready.acquire(blocking=False)
            # Never later than one that was answered as the message left.
            due = now + _AGE_SECONDS - max(0.0, sent - copy.answered)
            heappush(self._queue, (due, next(self._numbers), copy))
            self._bytes += copy.size
            self._ready.release()
        self._log.leave_out(time.thread_time() - begun)

    def _ask_all(self) -> None:
        """Ask for copies, one after the other, on a connection of its own."""
        client = Client(self._host, self._settings.port, self._settings.ghost_timeout_ms / 1000)
        while True:
            self._ready.acquire()
            with self._pace:
                self._wait_for_its_time()
                # Thrown away while this one waited for its time.
                if not self._queue:
                    continue
                _, _, copy = heappop(self._queue)
                self._bytes -= copy.size
                self._busy += 1
            before, begun = client.cpu_seconds, time.thread_time()
            headers = _headers(copy)
            built = time.thread_time() - begun
            try:
                client.post(self._paths[copy.protocol], copy.body, headers)
            except NoAnswerError:
                self._log.counters.add("mirror_failed")
            except Exception:
                client.close()
                self._log.counters.add("mirror_failed")
                LOG.exception("a copy could not be asked")
            else:
                # Whatever the status: it stands in the events.
                self._log.counters.add("mirror_sent")
            self._log.leave_out(built + client.cpu_seconds - before)
            self._busy -= 1

    def _wait_for_its_time(self) -> None:
        while self._queue and (wait := self._queue[0][0] - time.monotonic()) > 0:
            # Not for longer: another message may bring one that is due before.
            gevent.sleep(min(wait, _LOOK_SECONDS))


def _headers(copy: Copy) -> dict[str, str | bytes]:
    """Those of a copy's request, and what the live service answered."""
    event = copy.event
    answer: dict[str, Any] = {"version": copy.version, "ms": event["ms"], "status": event["status"]}
    answer |= {name: event[name][:_ROWS_PASSED_ON] for name in ("labels", "scores") if name in event}
    text = orjson.dumps(answer).decode()
    headers: dict[str, str | bytes] = {
        COPY_HEADER: "1",
        REQUEST_ID_HEADER: event["id"],
        # Headers are ASCII, which a label need not be; the standard library escapes, and is slower.
        LIVE_HEADER: text if text.isascii() else json.dumps(answer),
        "Content-Type": (copy.content_type or "application/json").encode("latin-1", "replace"),
    }
    if copy.json_length is not None:
        headers["Inference-Header-Content-Length"] = copy.json_length.encode("latin-1", "replace")
    return headers
