"""`photos.py DIGITS DIRECTORY`: files as people have them, PNG and JPEG of different sizes, and labels.csv beside them.

DIGITS: the template's digits.jsonl.gz. The environment of `nox -s data` has Pillow, which this needs.
"""

import csv
import gzip
import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PHOTOS = 1000


def photo(record: dict[str, Any], chance: random.Random) -> Image.Image:
    """A digit in grey on a dark ground, 12 to 40 pixels wide and high."""
    grey = 15 * np.array(record["image"], np.uint8)
    size = chance.randint(12, 40), chance.randint(12, 40)
    return Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC)


def main(digits: Path, directory: Path) -> None:
    """See the module. The same digits give the same files."""
    chance = random.Random(1)
    records = [json.loads(line) for line in gzip.decompress(digits.read_bytes()).splitlines()[:PHOTOS]]
    directory.mkdir()
    with (directory / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "label"])
        for record in records:
            name = f"{record['id']}.{chance.choice(['png', 'jpg'])}"
            photo(record, chance).save(directory / name)
            table.writerow([name, record["label"]])


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
