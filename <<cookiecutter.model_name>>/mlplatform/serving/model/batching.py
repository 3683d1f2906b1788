"""Many requests, one model call.

Whatever has arrived when no socket is readable goes into the next call, and a full batch goes at once: nobody waits
for a timer, and the batch grows with the load. A model whose full batch takes longer than 5 ms runs on a native thread,
so that the event loop keeps answering health checks; a faster one runs in the loop, because handing over would cost
more than the call.
"""

import _queue
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from math import ceil
from typing import Any

import gevent
import numpy as np
from gevent import monkey
from gevent.hub import Waiter

from mlplatform.contract.lengths import Length
from mlplatform.runtime.call import ModelRejectsError, Run
from mlplatform.serving.errors import OverloadedError, RequestError
from mlplatform.serving.model.signature import Array

Arrays = tuple[Array, ...]

LOOP_LIMIT = 0.005
_QUEUE_SECONDS = 0.05
_PATIENT_ROWS = 16
_STALE = 0.02
# A thousand connections do not take longer between two calls. What does is a pause of the whole process, such as of a
# container that has used up its share of the processor.
_LONGEST_BETWEEN = 0.5
_TICK = 0.05


class ModelCall:
    """One call of the model for a batch: begin and end on the monotonic clock, rows, and how many requests.

    waiting: rows that were left behind in the queue.
    """

    __slots__ = ("ended", "requests", "rows", "started", "waiting")

    def __init__(self, rows: int, requests: int, waiting: int) -> None:
        self.rows = rows
        self.requests = requests
        self.waiting = waiting
        self.started = self.ended = 0.0


class Entry:
    """Rows of one request that are computed together: inputs, then outputs or an error. call: the one that did it."""

    __slots__ = ("arrived", "call", "deadline", "done", "error", "gone", "inputs", "key", "outputs", "rows", "waiter")

    def __init__(self, inputs: Arrays, rows: int, key: object, deadline: float, gone: Callable[[], bool]) -> None:
        self.inputs = inputs
        self.rows = rows
        self.key = key
        self.deadline = deadline
        self.gone = gone
        self.arrived = time.monotonic()
        self.outputs: Arrays = ()
        self.error: Exception | None = None
        self.call: ModelCall | None = None
        self.done = False
        self.waiter = Waiter()

    def finish(self, error: Exception | None = None) -> None:
        """Wake the request, once. In the event loop only."""
        if not self.done:
            self.done = True
            self.error = error or self.error
            self.waiter.switch(None)


class Batcher:
    """Collects requests into calls of `run`. One per process, used from its event loop only.

    costs: seconds of one call by number of rows, measured at warm-up; its largest key is the rows of a full batch.
    one_shape: whether the inputs of any two requests can share a call. lengths: by input, how rows of several lengths
    are filled up for that; None: they need not be; empty: none need be.
    queue_seconds: what would wait longer for the model is refused, unless nothing else waits. 0: 50 ms, or what 16 rows
    take where that is longer, so that a few clients of a slow model, or on a slow machine, are not refused.
    """

    def __init__(
        self,
        run: Run,
        costs: Mapping[int, float],
        queue_seconds: float,
        one_shape: bool = True,
        lengths: Sequence[Length | None] = (),
    ) -> None:
        self._run = run
        self._lengths = lengths
        self.max_rows = max(costs)
        # Seconds by number of rows, the ones not measured in between; looked up at every call.
        sizes = sorted(costs)
        self._costs = np.interp(range(self.max_rows + 1), sizes, [costs[size] for size in sizes]).tolist()
        self.watch: deque[ModelCall] | None = None
        """Takes every call that has ended, if somebody wants them and takes them out again."""
        self._queue_seconds = queue_seconds
        # One call more than the 16 rows fill: the one that is running when they come.
        self._patient_calls = ceil(_PATIENT_ROWS / self.max_rows) + 1
        self._one_shape = one_shape
        self._queue: deque[Entry] = deque()
        self._rows = 0
        self._slowness = 1.0
        # What the connections take between two calls while rows wait; of a fast model more than a call.
        self._between = 0.0
        self._left_behind = False
        self._ended_at = 0.0
        self._running: list[Entry] = []
        self._started = 0.0
        self._loop = gevent.get_hub().loop
        # Below the sockets' priority: it fires when all that has arrived has been read.
        self._idle = self._loop.idle()
        self._idle.priority = -2
        # Above it, for a full batch: it fires at the next turn of the loop. Under overload some socket is always
        # readable and the other never fires.
        self._next = self._loop.idle()
        self._next.priority = 2
        self._inbox: Any = None
        if self._costs[-1] > LOOP_LIMIT:
            self._start_thread()

    @property
    def threaded(self) -> bool:
        """Whether the model has a native thread of its own."""
        return self._inbox is not None

    @property
    def queued_rows(self) -> int:
        """Rows that wait."""
        return self._rows

    def busy_for(self) -> float:
        """Seconds since the running model call began, 0 if none runs."""
        return time.monotonic() - self._started if self._running else 0.0

    def admit(self, rows: int, deadline: float) -> None:
        """Raises RequestError (503) at once if `rows` more would wait too long. deadline: on the monotonic clock."""
        if not self._rows and not self._running:
            return
        done = self._wait(self._rows + rows)
        # For a deadline counts what the connections take as well. For the patience it does not: of that a refusal takes
        # nearly as much as an answer, so that refusing would leave less time for answers instead of more.
        in_between = ceil((self._rows + rows) / self.max_rows) * self._between
        late = time.monotonic() + done + in_between > deadline
        if late or (done > self._patience() and self._refusing_helps()):
            raise OverloadedError(done + in_between)

    def _refusing_helps(self) -> bool:
        """Whether more than a batch waits, and for the model rather than for the connections, unless that was set."""
        batch = self.cost(self.max_rows)
        for_the_model = bool(self._queue_seconds) or self._between < batch
        return bool(self._rows) and self._wait(self._rows) > batch and for_the_model

    def _patience(self) -> float:
        """Seconds that a request may wait."""
        return self._queue_seconds or max(_QUEUE_SECONDS, self._patient_calls * self.cost(self.max_rows))

    def compute(
        self,
        inputs: Arrays,
        rows: int,
        deadline: float,
        gone: Callable[[], bool] = bool,
        calls: list[ModelCall] | None = None,
    ) -> Arrays:
        """Outputs for `rows` rows; waits, and shares the model call with others of the same shape.

        deadline: on the monotonic clock. gone: whether the client has hung up. calls: takes the model calls it got.
        Raises RequestError (503 overloaded, 504 too late, 400 the model rejects the values) or what the model raised.
        """
        self.admit(rows, deadline)
        key = None if self._one_shape else tuple(array.shape[1:] for array in inputs)
        if rows <= self.max_rows:
            return self._result(self._enter(Entry(inputs, rows, key, deadline, gone)), calls)
        starts = range(0, rows, self.max_rows)
        parts = [tuple(array[start : start + self.max_rows] for array in inputs) for start in starts]
        entries = [self._enter(Entry(part, len(part[0]), key, deadline, gone)) for part in parts]
        try:
            results = [self._result(entry, calls) for entry in entries]
        finally:
            for entry in entries:
                entry.done = True
        return tuple(np.concatenate(arrays) for arrays in zip(*results, strict=True))

    def cost(self, rows: int) -> float:
        """Expected seconds of one call with this many rows, as slow as the machine is now."""
        return float(self._costs[rows]) * self._slowness

    def _wait(self, rows: int) -> float:
        """Expected seconds that the model takes until this many queued rows are computed."""
        full, rest = divmod(rows, self.max_rows)
        running = max(0.0, self.cost(sum(e.rows for e in self._running)) - self.busy_for()) if self._running else 0.0
        return running + full * self.cost(self.max_rows) + (self.cost(rest) if rest else 0.0)

    def _enter(self, entry: Entry) -> Entry:
        self._queue.append(entry)
        self._rows += entry.rows
        if not self._running:
            self._schedule()
        return entry

    def _schedule(self) -> None:
        """Have the next batch run: at once if it is full, else when nobody else has anything to add to it."""
        watcher = self._next if self._rows >= self.max_rows else self._idle
        if not watcher.active:
            watcher.start(self._kick)

    def _result(self, entry: Entry, calls: list[ModelCall] | None) -> Arrays:
        try:
            # Gives way to the event loop, so that connections take turns.
            entry.waiter.get()
        finally:
            entry.done = True
            # A call that has not ended goes on without this request: its deadline has passed.
            if calls is not None and entry.call is not None and entry.call.ended:
                calls.append(entry.call)
        if entry.error is not None:
            raise entry.error
        return entry.outputs

    def _take(self) -> list[Entry]:
        """The next batch: the oldest entry and all of its shape that fit. What is expired or unwanted is dropped."""
        batch: list[Entry] = []
        passed_over: list[Entry] = []
        rows, now = 0, time.monotonic()
        while self._queue and rows < self.max_rows:
            entry = self._queue[0]
            if not self._wanted(entry, now):
                self._queue.popleft()
                self._rows -= entry.rows
            elif not batch or (entry.key == batch[0].key and rows + entry.rows <= self.max_rows):
                self._queue.popleft()
                self._rows -= entry.rows
                rows += entry.rows
                batch.append(entry)
            elif self._one_shape:
                break
            else:
                passed_over.append(self._queue.popleft())
        self._queue.extendleft(reversed(passed_over))
        return batch

    def _wanted(self, entry: Entry, now: float) -> bool:
        if entry.done:
            return False
        if now > entry.deadline:
            entry.finish(_too_late())
            return False
        # Asking the socket costs a system call: only for those who had time to lose patience.
        if now - entry.arrived > _STALE and entry.gone():
            entry.finish(RequestError(HTTPStatus.REQUEST_TIMEOUT, "the client has gone", close=True))
            return False
        return True

    def _kick(self) -> None:
        """Run the next batch; in the event loop. One only: between two calls the sockets have their turn."""
        self._idle.stop()
        self._next.stop()
        batch = self._take()
        if not batch:
            self._left_behind = False
            return
        now = time.monotonic()
        # Falls again also when nothing waits any more: else who refuses all but one would never learn better.
        between = min(now - self._ended_at, _LONGEST_BETWEEN) if self._left_behind else 0.0
        self._between += 0.1 * (between - self._between)
        self._left_behind = bool(self._queue)
        self._running = batch
        self._started = now
        if self._inbox is not None:
            self._inbox.put(batch)
            return
        self._execute(batch)
        self._running = []
        for entry in batch:
            entry.finish()
        if self._queue:
            self._schedule()

    def _execute(self, batch: list[Entry]) -> None:
        """One model call for a batch; on the native thread or in the loop."""
        call = ModelCall(sum(entry.rows for entry in batch), len(batch), self._rows)
        for entry in batch:
            entry.call = call
        call.started = time.monotonic()
        try:
            self._call(batch)
        except Exception as error:
            if len(batch) == 1:
                batch[0].error = error
            for entry in batch if len(batch) > 1 else ():
                # One of them spoils the call: one at a time, so that only the culprit gets the error.
                try:
                    self._call([entry])
                except Exception as own:
                    entry.error = own
            self._ended(call)
            return
        self._ended(call)
        took = call.ended - call.started
        expected = self._costs[call.rows]
        # Ten batches to believe that the machine has become slower or faster, within reason.
        self._slowness += 0.1 * (min(max(took / expected, 0.5), 20.0) - self._slowness)

    def _call(self, batch: Sequence[Entry]) -> None:
        try:
            if len(batch) == 1:
                batch[0].outputs = tuple(self._run(batch[0].inputs))
                return
            outputs = self._run(self._joined(batch))
        except ModelRejectsError as error:
            raise RequestError(HTTPStatus.BAD_REQUEST, f"the model rejects these values: {error}") from None
        start = 0
        for entry in batch:
            end = start + entry.rows
            entry.outputs = tuple(array[start:end] for array in outputs)
            start = end

    def _joined(self, batch: Sequence[Entry]) -> Sequence[Array]:
        """The inputs of several requests as one."""
        columns = zip(*(entry.inputs for entry in batch), strict=True)
        if not self._lengths:
            return [np.concatenate(arrays) for arrays in columns]
        pairs = zip(columns, self._lengths, strict=True)
        return [length.joined(arrays) if length else np.concatenate(arrays) for arrays, length in pairs]

    def _ended(self, call: ModelCall) -> None:
        call.ended = self._ended_at = time.monotonic()
        if self.watch is not None:
            self.watch.append(call)

    def _start_thread(self) -> None:
        # gevent has patched threading and queue; these originals are what works between native threads.
        self._inbox = _queue.SimpleQueue()
        self._finished: deque[list[Entry]] = deque()
        self._async = self._loop.async_()
        self._async.start(self._collect)
        self._clock = self._loop.timer(_TICK, _TICK)
        self._clock.start(self._expire)
        monkey.get_original("_thread", "start_new_thread")(self._work, ())

    def _work(self) -> None:
        while True:
            batch = self._inbox.get()
            self._execute(batch)
            self._finished.append(batch)
            self._async.send()

    def _collect(self) -> None:
        while self._finished:
            batch = self._finished.popleft()
            self._running = []
            # First the next batch, then the answers: the model computes while Python writes JSON.
            self._kick()
            for entry in batch:
                entry.finish()

    def _expire(self) -> None:
        """Answer those whose deadline has passed while a call is running; they are not computed, or not waited for."""
        now = time.monotonic()
        for entry in (*self._running, *self._queue):
            if now > entry.deadline:
                entry.finish(_too_late())


def _too_late() -> RequestError:
    return RequestError(HTTPStatus.GATEWAY_TIMEOUT, "the deadline has passed before the model came to this request")
