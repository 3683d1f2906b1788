"""Waiting for what other processes do."""

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], bool], seconds: float = 60, otherwise: Callable[[], str] = str) -> None:
    """Ask until something is so. Raises AssertionError, with what `otherwise` says, if it is not within the time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, otherwise()
        time.sleep(0.2)
