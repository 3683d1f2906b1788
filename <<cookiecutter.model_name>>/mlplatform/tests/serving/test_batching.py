"""The batcher by itself, with a model made of NumPy."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gevent
import gevent.socket
import numpy as np
import pytest

from mlplatform.contract.lengths import Length
from mlplatform.runtime.call import ModelRejectsError
from mlplatform.serving.errors import RequestError
from mlplatform.serving.model.batching import Arrays, Batcher
from mlplatform.serving.model.signature import Array

pytestmark = pytest.mark.serial

FAST = {1: 1e-6, 4: 1e-6}
SLOW = {1: 0.01, 4: 0.01}


class Doubling:
    """Doubles its input; remembers the rows of each call, and waits as long as the test wants."""

    def __init__(self) -> None:
        self.calls: list[list[float]] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self, inputs: Sequence[Array]) -> Sequence[Array]:
        (x,) = inputs
        self.calls.append(x.reshape(len(x), -1)[:, 0].tolist())
        self.go_on.wait(10)
        if -1 in x:
            raise ModelRejectsError("negative")
        return [2 * x]


@pytest.fixture
def model() -> Iterator[Doubling]:
    doubling = Doubling()
    yield doubling
    doubling.go_on.set()


def rows(*values: float) -> Arrays:
    return (np.array(values),)


def together(batcher: Batcher, requests: Sequence[Arrays], **options: Any) -> list[Any]:
    """What each of some requests gets that come at the same time: its output, or the error."""

    options.setdefault("deadline", time.monotonic() + 10)

    def ask(request: Arrays) -> Any:
        try:
            return batcher.compute(request, len(request[0]), **options)[0].tolist()
        except Exception as error:
            return error

    greenlets = [gevent.spawn(ask, request) for request in requests]
    gevent.joinall(greenlets, timeout=20, raise_error=True)
    return [greenlet.value for greenlet in greenlets]


@pytest.mark.parametrize("costs", [FAST, SLOW], ids=["in the loop", "on a thread"])
def test_what_comes_together_is_computed_together(model: Doubling, costs: dict[int, float]) -> None:
    batcher = Batcher(model, costs, queue_seconds=1)
    assert batcher.threaded is (costs is SLOW)
    assert together(batcher, [rows(1), rows(2, 3), rows(4)]) == [[2], [4, 6], [8]]
    assert model.calls == [[1, 2, 3, 4]]


@pytest.mark.parametrize("costs", [FAST, SLOW], ids=["in the loop", "on a thread"])
def test_a_call_has_no_more_rows_than_a_full_batch(model: Doubling, costs: dict[int, float]) -> None:
    batcher = Batcher(model, costs, queue_seconds=1)
    assert together(batcher, [rows(1, 2, 3), rows(4, 5), rows(6)]) == [[2, 4, 6], [8, 10], [12]]
    assert sorted(len(call) for call in model.calls) == [3, 3]


@pytest.mark.parametrize("costs", [FAST, SLOW], ids=["in the loop", "on a thread"])
def test_a_request_larger_than_a_batch_is_split(model: Doubling, costs: dict[int, float]) -> None:
    batcher = Batcher(model, costs, queue_seconds=1)
    many = np.arange(11.0)
    assert together(batcher, [(many,)]) == [(2 * many).tolist()]
    assert [len(call) for call in model.calls] == [4, 4, 3]


def test_rows_of_different_shapes_share_no_call(model: Doubling) -> None:
    batcher = Batcher(model, FAST, queue_seconds=1, one_shape=False)
    short, long = (np.ones((1, 2)),), (np.ones((1, 3)),)
    assert together(batcher, [short, long, short, long]) == [[[2, 2]], [[2, 2, 2]], [[2, 2]], [[2, 2, 2]]]
    assert [len(call) for call in model.calls] == [2, 2]


def test_lists_of_several_lengths_share_a_call_filled_up_to_the_longest(model: Doubling) -> None:
    batcher = Batcher(model, FAST, queue_seconds=1, lengths=[Length(1, 3, -5)])
    short, long = (np.ones((1, 2)),), (np.ones((2, 3)),)
    assert together(batcher, [short, long]) == [[[2, 2, -10]], [[2, 2, 2]] * 2]
    assert [len(call) for call in model.calls] == [3]


@pytest.mark.parametrize("costs", [FAST, SLOW], ids=["in the loop", "on a thread"])
def test_only_the_culprit_hears_of_its_fault(model: Doubling, costs: dict[int, float]) -> None:
    batcher = Batcher(model, costs, queue_seconds=1)
    good, bad, also_good = together(batcher, [rows(1), rows(-1), rows(3)])
    assert (good, also_good) == ([2], [6])
    assert (bad.status, bad.reason) == (400, "the model rejects these values: negative")


def test_the_event_loop_goes_on_while_a_slow_model_computes(model: Doubling) -> None:
    batcher = Batcher(model, SLOW, queue_seconds=1)
    model.go_on.clear()
    asking = gevent.spawn(together, batcher, [rows(1)])
    wait_until(lambda: batcher.busy_for() > 0)
    assert not asking.ready()
    model.go_on.set()
    assert asking.get(timeout=10) == [[2]]
    assert batcher.busy_for() == 0


def test_between_two_calls_of_a_fast_model_the_sockets_have_their_turn(model: Doubling) -> None:
    batcher = Batcher(model, FAST, queue_seconds=1)
    here, there = gevent.socket.socketpair()
    with here, there:
        reading = gevent.spawn(lambda: here.recv(1) and len(model.calls))
        gevent.sleep(0.01)
        asking = gevent.spawn(together, batcher, [rows(*[float(number)] * 4) for number in range(5)])
        there.send(b"x")
        assert len(asking.get(timeout=10)) == 5
        assert len(model.calls) == 5
        assert reading.get(timeout=10) < 2


def test_too_long_a_queue_is_refused_at_once(model: Doubling) -> None:
    batcher = Batcher(model, SLOW, queue_seconds=0.025)
    with held(model, batcher) as first:
        second, third = (gevent.spawn(together, batcher, [rows(1, 2, 3, 4)]) for _ in range(2))
        wait_until(lambda: batcher.queued_rows == 8)
        (refused,) = together(batcher, [rows(9)])
        assert refused.status == 503
        assert refused.reason.startswith("overloaded: the wait would be ")
        assert refused.retry_after == 1
    assert [waiting.get(timeout=10) for waiting in (first, second, third)] == [[[0.0]], [[2, 4, 6, 8]], [[2, 4, 6, 8]]]


def test_sixteen_clients_of_a_slow_model_are_not_refused_unless_asked_for(model: Doubling) -> None:
    batcher = Batcher(model, {1: 0.2, 4: 0.2}, queue_seconds=0)
    with held(model, batcher) as first:
        others = gevent.spawn(together, batcher, [rows(number) for number in range(1, 16)])
        wait_until(lambda: batcher.queued_rows == 15)
        more = gevent.spawn(together, batcher, [rows(9) for _ in range(12)])
        gevent.sleep(0.01)
        assert batcher.queued_rows <= 20
    assert first.get(timeout=10) == [[0.0]]
    refused = [answer.status for answer in more.get(timeout=10) if isinstance(answer, RequestError)]
    assert set(refused) == {503}
    assert len(refused) >= 7
    assert others.get(timeout=10) == [[2.0 * number] for number in range(1, 16)]


def test_what_cannot_be_in_time_is_refused_at_once(model: Doubling) -> None:
    batcher = Batcher(model, {1: 1.0, 4: 1.0}, queue_seconds=10)
    with held(model, batcher):
        (refused,) = together(batcher, [rows(1)], deadline=time.monotonic() + 0.5)
        assert refused.status == 503
    assert model.calls == [[0.0]]


def test_what_the_connections_take_between_calls_counts_for_a_deadline(model: Doubling) -> None:
    batcher = Batcher(model, FAST, queue_seconds=10)
    with connections_that_take(0.01):
        asking = gevent.spawn(together, batcher, [rows(1, 2, 3, 4)] * 40)
        wait_until(lambda: len(model.calls) >= 20)
        # Some twenty calls are ahead of it, and a hundredth of a second before each.
        (refused,) = together(batcher, [rows(9)], deadline=time.monotonic() + 0.1)
        assert (refused.status, refused.reason[:11]) == (503, "overloaded:")
        assert asking.get(timeout=20) == [[2, 4, 6, 8]] * 40


@pytest.mark.parametrize(("queue_seconds", "refused"), [(0, False), (0.05, True)], ids=["by default", "if asked for"])
def test_what_waits_for_the_connections_rather_than_for_the_model_is_not_refused(
    model: Doubling, queue_seconds: float, refused: bool
) -> None:
    # By its cost the queue takes 0.2 s. In truth a call takes nothing, and the connections 0.04 s before each.
    batcher = Batcher(model, {1: 0.004, 4: 0.004}, queue_seconds=queue_seconds)
    with connections_that_take(0.04):
        asking = gevent.spawn(together, batcher, [rows(1, 2, 3, 4)] * 12, deadline=time.monotonic() + 60)
        wait_until(lambda: len(model.calls) >= 8)
        answers = together(batcher, [rows(1, 2, 3, 4)] * 50, deadline=time.monotonic() + 60)
        asking.get(timeout=60)
    assert any(isinstance(answer, RequestError) for answer in answers) is refused


def test_a_pause_of_the_process_keeps_nobody_out_afterwards(model: Doubling) -> None:
    batcher = Batcher(model, FAST, queue_seconds=10)
    # Between the first call and the second, while rows wait.
    with connections_that_take(4, lambda: len(model.calls) == 1):
        assert together(batcher, [rows(1, 2, 3, 4)] * 2) == [[2, 4, 6, 8]] * 2
    assert lets_in(batcher)


def test_connections_that_were_slow_keep_nobody_out_once_they_are_faster(model: Doubling) -> None:
    batcher = Batcher(model, FAST, queue_seconds=10)
    with connections_that_take(0.5):
        together(batcher, [rows(1, 2, 3, 4)] * 12, deadline=time.monotonic() + 60)
    assert lets_in(batcher)


def test_what_has_expired_is_answered_and_not_computed(model: Doubling) -> None:
    batcher = Batcher(model, SLOW, queue_seconds=1)
    with held(model, batcher):
        (late,) = together(batcher, [rows(1)], deadline=time.monotonic() + 1)
        assert (late.status, model.go_on.is_set()) == (504, False)
    assert together(batcher, [rows(5)]) == [[10]]
    assert model.calls == [[0.0], [5.0]]


def test_who_has_hung_up_is_not_computed(model: Doubling) -> None:
    batcher = Batcher(model, SLOW, queue_seconds=1)
    with held(model, batcher):
        gone = gevent.spawn(together, batcher, [rows(1)], gone=lambda: True)
        there = gevent.spawn(together, batcher, [rows(2)], gone=lambda: False)
        wait_until(lambda: batcher.queued_rows == 2)
        # For as long as nobody is asked whether they are still there.
        gevent.sleep(0.05)
    assert isinstance(gone.get(timeout=10)[0], RequestError)
    assert there.get(timeout=10) == [[4]]
    assert model.calls == [[0.0], [2.0]]


def test_a_slower_machine_is_noticed(model: Doubling) -> None:
    batcher = Batcher(model, {1: 0.006, 4: 0.006}, queue_seconds=1)
    model.go_on.clear()
    for _ in range(3):
        asking = gevent.spawn(together, batcher, [rows(1)])
        gevent.sleep(0.1)
        model.go_on.set()
        asking.get(timeout=10)
        model.go_on.clear()
    assert batcher.cost(4) > 0.012


def lets_in(batcher: Batcher) -> bool:
    """Whether four who ask at once, and have a third of a second, get their answers, if need be when they ask again."""
    return any(together(batcher, [rows(1)] * 4, deadline=time.monotonic() + 0.3) == [[2]] * 4 for _ in range(100))


def wait_until(true: Callable[[], bool]) -> None:
    """Give way to the greenlets of this thread until something is so."""
    with gevent.Timeout(10):
        while not true():
            gevent.sleep(0.001)


@contextmanager
def connections_that_take(seconds: float, when: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """In each turn of the event loop, or in some, others have it to themselves for so long."""
    busy = gevent.get_hub().loop.prepare()
    busy.start(lambda: time.sleep(seconds) if when() else None)
    try:
        yield
    finally:
        busy.stop()
        busy.close()


class held:  # noqa: N801
    """A batcher whose model is busy with a request for 0, until the end of the block."""

    def __init__(self, model: Doubling, batcher: Batcher) -> None:
        self.model, self.batcher = model, batcher

    def __enter__(self) -> Any:
        self.model.go_on.clear()
        asking = gevent.spawn(together, self.batcher, [rows(0)])
        # For longer than a call of SLOW takes, so that nothing more is expected of it.
        wait_until(lambda: self.batcher.busy_for() > SLOW[1])
        return asking

    def __exit__(self, *_: object) -> None:
        self.model.go_on.set()
        gevent.sleep(0.05)
