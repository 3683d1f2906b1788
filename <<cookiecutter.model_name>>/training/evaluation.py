"""What a trained model is worth: figures on the test split."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def metrics(probabilities: NDArray[np.float32], labels: NDArray[np.int32], names: Sequence[str]) -> dict[str, Any]:
    """Accuracy, confusion matrix and per-class figures.

    probabilities: (examples, classes); labels: (examples,), index into names. In `confusion`, rows are what an example
    is, columns what the model says.
    """
    classes = len(names)
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    hits = confusion.diagonal()
    said, present = confusion.sum(axis=0), confusion.sum(axis=1)
    precision = hits / np.maximum(said, 1)
    recall = hits / np.maximum(present, 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return {
        "examples": len(labels),
        "accuracy": float(hits.sum() / len(labels)),
        "classes": {
            name: {
                "examples": int(present[i]),
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
            }
            for i, name in enumerate(names)
        },
        "confusion": confusion.tolist(),
    }
