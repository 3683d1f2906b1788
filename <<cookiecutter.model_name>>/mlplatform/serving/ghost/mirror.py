"""Copies of requests for the ghost, made after their answers. Whatever the ghost does, the live service goes on.

Five times a second the copies that wait leave in one message; the ghost plays them at the pace of the requests, see
replay.py. So the live service does not pay for HTTP once for each of them. When more wait than may, the oldest are
dropped and counted. When the ghost fails nothing is tried for a while, then one message. A request that is itself a
copy is never copied. benchmarks/ghost measures what all this costs the live service.
"""

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import gevent
from gevent.event import Event

from mlplatform.contract.events import SHARES, share
from mlplatform.serving.ghost.client import Client, NoAnswerError
from mlplatform.serving.ghost.event_log import CopyableRequest, EventLog
from mlplatform.serving.ghost.message import MOST_BYTES, PATH, SENT_HEADER, pack
from mlplatform.serving.model.service import Service

LOG = logging.getLogger("gunicorn.error")
FLUSH_SECONDS = 2.0
"""Time for what waits when the server ends."""

# A message leaves when so long nothing has left, or so many bytes wait, or half the queue.
_EVERY_SECONDS, _AT_ONCE_BYTES = 0.2, 1 << 18
_RATE_SECONDS = 5.0
# Copies in a row that failed; then for how long none is tried, doubled each time.
_FAILURES = 5
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
# Sending more at once keeps the event loop for longer than a small request takes.
_PIECE_BYTES, _PAUSE_SECONDS = 1 << 16, 0.001
# Times of messages until they are reported.
_TIMES_KEPT = 1000


class _Block(NamedTuple):
    parts: list[bytes]
    copies: int
    size: int


class Mirror:
    """Sends copies of one process's requests. Made after the fork; used from its event loop only.

    log: its counters count what becomes of the copies. seconds: how long messages took, until who reports takes them.
    """

    def __init__(self, service: Service, log: EventLog) -> None:
        settings = service.settings
        self._settings = settings
        self._log = log
        url = urlsplit(settings.ghost_url)
        self._client = Client(url.hostname or "", url.port or 80, settings.ghost_timeout_ms / 1000)
        self._below = int(settings.ghost_sample_rate * SHARES)
        self._waiting: deque[_Block] = deque()
        self._copies = self._bytes = 0
        self._under_way = 0
        self._wake = Event()
        self._sending: gevent.Greenlet[[], None] | None = None
        self._stopped = False
        self._failures = 0
        self._pause = _FIRST_PAUSE
        self._closed_until = 0.0
        self.seconds: deque[float] = deque(maxlen=_TIMES_KEPT)

    def start(self) -> None:
        """Begin to send."""
        self._sending = gevent.spawn(self._run)
        if self._settings.ghost_sample_rate_file:
            gevent.spawn(self._watch_rate, Path(self._settings.ghost_sample_rate_file))

    def stop(self) -> None:
        """Send what waits, within a time; what has not left then is dropped."""
        self._stopped = True
        self._wake.set()
        if self._sending is not None:
            self._sending.join(FLUSH_SECONDS)
        self._log.counters.add("mirror_dropped", self._copies + self._under_way)
        if self._sending is not None:
            self._sending.kill()

    def take(self, ids: Sequence[str], requests: Sequence[CopyableRequest | None]) -> list[bool]:
        """Of which requests a copy is sent; those for which the queue is too short, or whose ghost fails, are dropped
        and counted.

        Which ones are sampled follows from their ids. requests: None for one that is not to be copied.
        """
        below = self._below
        if not below:
            return []
        sampled = [
            request is not None and (below >= SHARES or share(id) < below)
            for id, request in zip(ids, requests, strict=True)
        ]
        counters = self._log.counters
        counters.add("mirror_offered", sum(sampled))
        if time.monotonic() < self._closed_until:
            counters.add("mirror_skipped", sum(sampled))
            return [False] * len(sampled)
        copies = size = 0
        for place, request in enumerate(requests):
            if request is None or not sampled[place]:
                continue
            _, body, _, _ = request
            if copies >= self._settings.ghost_queue or size + len(body) > self._settings.ghost_queue_bytes:
                counters.add("mirror_dropped")
                sampled[place] = False
                continue
            copies += 1
            size += len(body)
        return sampled

    def hand_over(self, columns: bytes, version: str, copies: Sequence[CopyableRequest]) -> None:
        """Send copies that were taken, in a while. columns: a line of just them."""
        parts = pack(columns, version, copies)
        size = sum(map(len, parts))
        while self._waiting and (
            self._copies + len(copies) > self._settings.ghost_queue
            or self._bytes + size > self._settings.ghost_queue_bytes
        ):
            self._log.counters.add("mirror_dropped", self._oldest().copies)
        self._waiting.append(_Block(parts, len(copies), size))
        self._copies += len(copies)
        self._bytes += size
        if self._is_much:
            self._wake.set()

    @property
    def _is_much(self) -> bool:
        """Whether more waits than should."""
        return self._bytes >= _AT_ONCE_BYTES or 2 * self._copies > self._settings.ghost_queue

    def _oldest(self) -> _Block:
        """Take it out of those that wait."""
        block = self._waiting.popleft()
        self._copies -= block.copies
        self._bytes -= block.size
        return block

    def _run(self) -> None:
        while self._waiting or not self._stopped:
            if not self._stopped and not self._is_much:
                self._wake.wait(_EVERY_SECONDS)
            self._wake.clear()
            if self._waiting:
                self._send()

    def _send(self) -> None:
        """Send the oldest of what waits, in one message."""
        parts: list[bytes] = []
        size = copies = 0
        while self._waiting and size < MOST_BYTES:
            block = self._oldest()
            parts += block.parts
            size += block.size
            copies += block.copies
        self._under_way = copies
        counters, begun = self._log.counters, time.monotonic()
        headers = {
            SENT_HEADER: repr(begun),
            "Content-Type": "application/octet-stream",
            "Content-Length": str(size),
            "Connection": "close",
        }
        try:
            message = b"".join(parts)
            del parts
            status = self._client.post(PATH, _in_pieces(message), headers)
        except NoAnswerError as error:
            counters.add("mirror_failed", copies)
            self._failed(copies, str(error))
        except Exception:
            counters.add("mirror_failed", copies)
            self._failed(copies, "unforeseen")
            LOG.exception("copies could not be sent to the ghost")
        else:
            counters.add("mirror_sent" if status == 202 else "mirror_refused", copies)
            self.seconds.append(time.monotonic() - begun)
            self._succeeded()
        finally:
            self._under_way = 0
            # Not kept, so that the next message may reach another of several ghosts.
            self._client.close()

    def _failed(self, copies: int, reason: str) -> None:
        known = self._failures >= _FAILURES
        self._failures += copies
        if self._failures < _FAILURES:
            return
        if not known:
            LOG.warning("The ghost at %s fails (%s); no copies for a while", self._settings.ghost_url, reason)
        self._closed_until = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        # What waits would only find the same.
        while self._waiting:
            self._log.counters.add("mirror_skipped", self._oldest().copies)

    def _succeeded(self) -> None:
        if self._failures >= _FAILURES:
            LOG.info("The ghost at %s answers again", self._settings.ghost_url)
        self._failures = 0
        self._pause = _FIRST_PAUSE

    def _watch_rate(self, path: Path) -> None:
        """Follow a file that holds the rate, such as a mounted ConfigMap, so that no restart is needed.

        While it is not there, the rate is that of the settings.
        """
        logged = ""
        while True:
            try:
                content = path.read_text(encoding="utf-8").strip() if path.exists() else ""
                rate = float(content) if content else self._settings.ghost_sample_rate
                if not 0 <= rate <= 1:
                    raise ValueError(content)
            except (OSError, ValueError) as error:
                if logged != str(error):
                    LOG.error("ghost_sample_rate_file %s: %s; expected a number from 0 to 1", path, error)
                logged = str(error)
            else:
                logged = ""
                if int(rate * SHARES) != self._below:
                    self._below = int(rate * SHARES)
                    LOG.info("Sample rate for the ghost: %g", rate)
            gevent.sleep(_RATE_SECONDS)


def _in_pieces(message: bytes) -> Iterator[bytes]:
    """A message, with a pause after each piece in which the event loop turns to the requests."""
    for start in range(0, len(message), _PIECE_BYTES):
        if start:
            gevent.sleep(_PAUSE_SECONDS)
        yield message[start : start + _PIECE_BYTES]
