"""Evaluation of a trained model: metrics on the test split, a function of the predictions alone."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.comparison import proportion_interval
from mlplatform.data.dataset import Split
from mlplatform.training.export import Predict

BINS = 10
# Batches that inference is timed with: a single request, and what the serving batcher collects under load.
TIMED_BATCHES = (1, 32)
# How far the probabilities of an example may be from a sum of 1: half precision leaves 1e-3, forgetting softmax more.
SUM_TOLERANCE = 1e-2

Labels = NDArray[np.int32]
Probabilities = NDArray[np.float32]


def metrics(probabilities: Probabilities, labels: Labels, names: Sequence[str]) -> dict[str, Any]:
    """Everything that follows from the predictions, as JSON values without NaN.

    probabilities: (examples, classes); labels: (examples,), index into names.

    `accuracy` with `accuracy_interval` (Wilson, 95 %); `macro_f1`, the mean over the classes that occur as label or
    prediction; `log_loss`, the mean of -ln(probability of the true class); `calibration`, see there; `classes`, by
    name: `examples` with this label, `precision`, `recall`, `f1`, null where they would divide by zero; `confusion`:
    rows are what an example is, columns what the model says; `invalid`: examples whose probabilities are no
    distribution (not finite, negative, sum not 1) and count as no prediction.
    """
    invalid = ~_are_distributions(probabilities)
    clean = np.where(invalid[:, None], np.float32(0), probabilities)
    predicted = predicted_classes(clean)
    right = (predicted == labels) & ~invalid
    confusion = np.zeros((len(names), len(names)), np.int64)
    np.add.at(confusion, (labels[~invalid], predicted[~invalid]), 1)
    present = np.bincount(labels, minlength=len(names))
    classes = _by_class(confusion, present, names)
    f1 = [figures["f1"] for figures in classes.values() if figures["f1"] is not None]
    return {
        "examples": len(labels),
        "correct": int(right.sum()),
        "accuracy": int(right.sum()) / len(labels),
        "accuracy_interval": asdict(proportion_interval(int(right.sum()), len(labels))),
        "macro_f1": float(np.mean(f1)),
        "log_loss": _log_loss(clean, labels),
        "calibration": calibration(clean.max(axis=1), right),
        "invalid": int(invalid.sum()),
        "classes": classes,
        "confusion": confusion.tolist(),
    }


def predicted_classes(probabilities: Probabilities) -> NDArray[np.int64]:
    """(examples,): index of the most probable class; of several the first."""
    return np.asarray(probabilities.argmax(axis=1), np.int64)


def calibration(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> dict[str, Any]:
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


def _are_distributions(probabilities: Probabilities) -> NDArray[np.bool_]:
    finite = np.asarray(np.isfinite(probabilities).all(axis=1))
    clean = np.where(finite[:, None], probabilities, np.float32(0)).astype(np.float64)
    return np.asarray(finite & (clean.min(axis=1) >= 0) & (np.abs(clean.sum(axis=1) - 1) <= SUM_TOLERANCE))


def _log_loss(probabilities: Probabilities, labels: Labels) -> float:
    """A probability of 0 for what is true would be infinitely wrong: it counts as float32's resolution, 1.2e-7."""
    true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    # + 0.0: a perfect model's loss is 0, not -0.
    return float(-np.log(np.clip(true, np.finfo(np.float32).eps, 1)).mean()) + 0.0


def _by_class(confusion: NDArray[np.int64], present: NDArray[np.int64], names: Sequence[str]) -> dict[str, Any]:
    said = confusion.sum(axis=0)
    hits = confusion.diagonal()
    return {
        name: {
            "examples": int(present[i]),
            "precision": _ratio(hits[i], said[i]),
            "recall": _ratio(hits[i], present[i]),
            # 2PR / (P + R), in a form that is defined also where one of them is not.
            "f1": _ratio(2 * hits[i], said[i] + present[i]),
        }
        for i, name in enumerate(names)
    }


def _ratio(part: np.int64, whole: np.int64) -> float | None:
    return int(part) / int(whole) if whole else None
