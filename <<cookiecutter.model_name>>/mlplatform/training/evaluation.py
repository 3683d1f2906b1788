"""Evaluation of a trained model: metrics on the test split, a function of the predictions alone."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract import measures
from mlplatform.contract.comparison import proportion_interval
from mlplatform.data.dataset import Split
from mlplatform.training.export import Predict

BINS = 10
# Batches that inference is timed with: a single request, and what the serving batcher collects under load.
TIMED_BATCHES = (1, 32)

Labels = NDArray[np.int32]
Probabilities = NDArray[np.float32]


def metrics(probabilities: Probabilities, labels: Labels, names: Sequence[str]) -> dict[str, Any]:
    """Everything that follows from the predictions, as JSON values without NaN.

    probabilities: (examples, classes); labels: (examples,), index into names.

    All of `measures.listed`, such as `accuracy` and `macro_f1`, and `accuracy_interval` (Wilson, 95 %); `calibration`,
    see there; `classes`, by name: `examples` with this label, and each metric of one class, null where it would divide
    by zero; `confusion`: rows are what an example is, columns what the model says; `invalid`: examples whose
    probabilities are no distribution (not finite, negative, sum not 1) and count as no prediction.
    """
    sample = measures.sample(names, labels, probabilities)
    right = sample.predicted == sample.true
    of_classes = measures.of_classes(sample)
    return {
        "examples": len(labels),
        "correct": int(right.sum()),
        "accuracy_interval": asdict(proportion_interval(int(right.sum()), len(labels))),
        **measures.listed(sample),
        "calibration": calibration(sample.of_every_class().max(axis=1), right),
        "invalid": int((sample.predicted < 0).sum()),
        "classes": {
            name: {"examples": int(examples), **of_classes[name]}
            for name, examples in zip(names, sample.counts, strict=True)
        },
        "confusion": measures.Weighted(sample).confusion[:, :-1].astype(np.int64).tolist(),
    }


def predicted_classes(probabilities: Probabilities) -> NDArray[np.int64]:
    """(examples,): index of the most probable class; of several the first."""
    return np.asarray(probabilities.argmax(axis=1), np.int64)


def calibration(confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_]) -> dict[str, Any]:
    """How far the model's confidence is from how often it is right.

    confidence: (examples,), probability of the predicted class; right: (examples,). `error` is the expected
    calibration error of Guo et al. (2017), arXiv:1706.04599, equation 3: the mean over the examples of
    |accuracy - confidence| of their bin. `bins`: ten of equal width, closed above; `accuracy`, its Wilson interval
    (`low`, `high`) and mean `confidence` are null in a bin without examples.
    """
    # Binned in float64: in float32 a confidence of 0.7 lies above the edge 0.7.
    number = np.clip(np.ceil(np.round(confidence.astype(np.float64), 6) * BINS) - 1, 0, BINS - 1).astype(np.int64)
    bins = []
    error = 0.0
    for i in range(BINS):
        chosen = number == i
        examples = int(chosen.sum())
        described: dict[str, Any] = {"from": i / BINS, "to": (i + 1) / BINS, "examples": examples}
        described |= dict.fromkeys(("accuracy", "low", "high", "confidence"))
        if examples:
            hits, mean = int(right[chosen].sum()), float(confidence[chosen].astype(np.float64).mean())
            described |= {
                "accuracy": hits / examples,
                "confidence": mean,
                **asdict(proportion_interval(hits, examples)),
            }
            error += examples / len(right) * abs(hits / examples - mean)
        bins.append(described)
    return {"error": error, "bins": bins}


def worst_mistakes(probabilities: Probabilities, labels: Labels, count: int) -> NDArray[np.int64]:
    """Indices of the wrong examples, the most confident ones first; at most `count`."""
    confidence = np.nan_to_num(probabilities).max(axis=1)
    wrong = np.flatnonzero(predicted_classes(probabilities) != labels)
    return wrong[np.argsort(-confidence[wrong], kind="stable")][:count]


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


def directory_bytes(directory: Path) -> int:
    """Size of all files below a directory."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
