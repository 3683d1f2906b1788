"""Callers of a service, who keep their connections open and note each answer."""

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Load:
    """What callers got. lost: what was said instead of an answer of 200; seconds: for which they asked."""

    answered: int = 0
    lost: list[str] = field(default_factory=list)
    seconds: float = 0

    def until(self, more: int, seconds: float = 60) -> None:
        """Wait until so many more requests have been answered. Raises AssertionError if they are not in this time."""
        end, enough = time.monotonic() + seconds, self.answered + more
        while self.answered < enough:
            assert time.monotonic() < end, f"{self.answered} answers, {self.lost[-3:]}"
            time.sleep(0.1)

    def __str__(self) -> str:
        return f"{self.answered} answered, {len(self.lost)} lost in {self.seconds:.0f} s"


@contextmanager
def asked_steadily(
    address: str, path: str, body: bytes, callers: int = 8, pause: float = 0.05, *, kept: bool = True
) -> Iterator[Load]:
    """Post the body again and again, until the end, which waits for the last answers.

    address: host:port; kept: connections stay open, else each request has its own, which a service must accept.
    """
    load, stop, lock = Load(), threading.Event(), threading.Lock()

    def call() -> None:
        connection = http.client.HTTPConnection(address, timeout=30)
        while not stop.wait(pause):
            said = ""
            try:
                connection.request("POST", path, body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                content = answer.read()
                if answer.status != 200:
                    said = f"{answer.status}: {content[:200].decode(errors='replace')}"
                if not kept:
                    connection.close()
            except (OSError, http.client.HTTPException) as error:
                said = f"{type(error).__name__}: {error}"
                connection.close()
            with lock:
                if said:
                    load.lost.append(said)
                else:
                    load.answered += 1
        connection.close()

    threads, began = [threading.Thread(target=call) for _ in range(callers)], time.monotonic()
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        load.seconds = time.monotonic() - began
