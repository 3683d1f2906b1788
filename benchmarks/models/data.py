"""Records for the models in kinds/: made up from a seed, small, and easy to learn from if there is anything."""

import base64
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

Record = dict[str, Any]


def text(chance: random.Random) -> Record:
    """A message, and whether it is spam."""
    spam = chance.random() < 0.5
    word = chance.choice(("free", "win", "money") if spam else ("hello", "meeting", "lunch"))
    return {"text": f"{word} {word} {chance.randrange(10**6)}", "label": "spam" if spam else "ham"}


def table(chance: random.Random) -> Record:
    """A category, and two numbers of which one is -1 where it is missing."""
    city, age = chance.choice(("Rome", "Oslo", "Lima")), chance.choice((-1.0, chance.uniform(18, 80)))
    buys = city == "Rome" or age > 50
    return {"city": city, "age": age, "visits": chance.randrange(20), "label": "buys" if buys else "leaves"}


def image(chance: random.Random) -> Record:
    """An 8x8 PNG in base64, dark or bright."""
    bright = chance.random() < 0.5
    low, high = (128, 255) if bright else (0, 127)
    grey = bytes(chance.randint(low, high) for _ in range(64))
    return {"png": base64.urlsafe_b64encode(png(8, grey)).decode(), "label": "bright" if bright else "dark"}


def png(side: int, grey: bytes) -> bytes:
    """A PNG of side x side grey pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    lines = b"".join(b"\0" + grey[at : at + side] for at in range(0, side * side, side))
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def series(chance: random.Random) -> Record:
    """Twenty steps of three sensors that rise or fall."""
    slope = chance.choice((-0.2, 0.2))
    steps = [[slope * step + chance.gauss(0, 0.5) for _ in range(3)] for step in range(20)]
    return {"steps": steps, "label": "rises" if slope > 0 else "falls"}


def tokens(chance: random.Random) -> Record:
    """Sixteen tokens; what matters is whether a 7 is among them."""
    values = [chance.choice([token for token in range(32) if token != 7]) for _ in range(16)]
    with_seven = chance.random() < 0.5
    if with_seven:
        values[chance.randrange(16)] = 7
    return {"tokens": values, "label": "seven" if with_seven else "none"}


def vector(chance: random.Random) -> Record:
    """Sixty-four numbers around one of two centres."""
    centre = chance.choice((-1, 1))
    return {"x": [chance.gauss(centre, 1) for _ in range(64)], "label": "right" if centre > 0 else "left"}


def rare(chance: random.Random) -> Record:
    """One fraud in two hundred, and nothing in the record that tells."""
    return {"x": [chance.gauss(0, 1) for _ in range(4)], "label": "fraud" if chance.random() < 1 / 200 else "fine"}


# Kind: one record, how many, and epochs.
KINDS: dict[str, tuple[Callable[[random.Random], Record], int, int]] = {
    "text": (text, 600, 4),
    "table": (table, 900, 20),
    "image": (image, 600, 6),
    "lstm": (series, 600, 3),
    "transformer": (tokens, 1500, 12),
    "dense": (vector, 600, 1),
    "imbalanced": (rare, 4000, 2),
}


def records(kind: str) -> Iterator[Record]:
    """All records of a kind, the same every time."""
    chance = random.Random(1)
    make, count, _ = KINDS[kind]
    for number in range(count):
        yield {"id": f"{kind}-{number:05}", **make(chance)}
