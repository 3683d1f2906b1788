"""The batching that a user would write by hand for an asyncio server, after ours; for the peers that have none.

One call for whatever has arrived in a turn of the event loop, the frozen graph through a session callable; a model
whose call takes long (medium) runs on one thread of its own, as in our server. Deliberately without our validation,
limits, deadlines and draining, so that the comparison errs in the peer's favour.
"""

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from saved_model import KIND, MAX_ROWS, frozen

call = frozen()
thread = ThreadPoolExecutor(1) if KIND == "medium" else None
queue: deque[tuple[Any, asyncio.Future[Any]]] = deque()
running = False


def compute(batch: list[tuple[Any, asyncio.Future[Any]]]) -> Any:
    return call(batch[0][0] if len(batch) == 1 else np.concatenate([rows for rows, _ in batch]))


def answer(batch: list[tuple[Any, asyncio.Future[Any]]], outputs: Any) -> None:
    start = 0
    for rows, future in batch:
        future.set_result(outputs[start : start + len(rows)])
        start += len(rows)


def take() -> list[tuple[Any, asyncio.Future[Any]]]:
    return [queue.popleft() for _ in range(min(MAX_ROWS, len(queue)))]


def flush(seen: int) -> None:
    if seen < len(queue) < MAX_ROWS:
        # More came in this turn of the loop; wait for a turn in which none comes.
        asyncio.get_running_loop().call_soon(flush, len(queue))
        return
    while queue:
        batch = take()
        answer(batch, compute(batch))


async def flush_on_thread() -> None:
    global running
    running = True
    loop = asyncio.get_running_loop()
    while queue:
        batch = take()
        answer(batch, await loop.run_in_executor(thread, compute, batch))
    running = False


async def submit(rows: Any) -> Any:
    """The outputs for these rows."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    queue.append((rows, future))
    if thread is not None:
        if not running and len(queue) == 1:
            loop.call_soon(lambda: loop.create_task(flush_on_thread()))
    elif len(queue) == 1:
        loop.call_soon(flush, 0)
    return await future
