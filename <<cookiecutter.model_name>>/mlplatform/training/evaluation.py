"""What an exported model takes: time and size."""

import time
from pathlib import Path

import numpy as np

from mlplatform.data.dataset import Split
from mlplatform.training.export import Predict

# Batches that inference is timed with: a single request, and what the serving batcher collects under load.
TIMED_BATCHES = (1, 32)


def inference_ms(predict: Predict, split: Split) -> dict[str, float]:
    """Median time of the exported model, in ms, by examples per call as text; after calls that warm it up."""
    medians = {}
    for batch in TIMED_BATCHES:
        inputs, _ = split.take(np.arange(batch) % len(split))
        for _ in range(3):
            predict(inputs)
        # A hundred calls, but no more than a second of them: a slow model varies less.
        times: list[float] = []
        while len(times) < 5 or (len(times) < 100 and sum(times) < 1):
            started = time.perf_counter()
            predict(inputs)
            times.append(time.perf_counter() - started)
        medians[str(batch)] = round(float(np.median(times)) * 1000, 4)
    return medians


def size(path: Path) -> int:
    """Bytes of a file, or of all files below a directory."""
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())
