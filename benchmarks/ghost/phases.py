"""When ghost mode is on: what the server that is measured and what measures it have to agree upon."""

import zlib

LEFT_OUT = 0.2
"""The share of each phase in which the work of the one before may be finished."""


def is_on(number: int) -> bool:
    """In which of two neighbours, by chance: what happens every second must not meet the same one every time."""
    return bool((number + zlib.crc32(str(number // 2).encode())) % 2)
