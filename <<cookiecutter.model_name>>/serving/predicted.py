"""What a model said, in the form that answers are compared in: labels and scores."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.exchange import Exchange
from serving.service import ServedModel
from serving.signature import Array


class Predicted:
    """`predicted` of one request, worked out when it is first asked for: not while the request is being answered.

    That is with others in one turn, where it takes half of the time.
    """

    __slots__ = ("_found", "_model", "_outputs")

    def __init__(self, model: ServedModel, outputs: Sequence[Array]) -> None:
        self._model = model
        self._outputs = outputs
        self._found: dict[str, Any] | None = None

    def __call__(self) -> dict[str, Any]:
        """As of `predicted`; the same one every time."""
        if self._found is None:
            self._found = predicted(self._model, self._outputs)
            self._outputs = ()
        return self._found


def predicted_by(exchange: Exchange) -> Predicted | None:
    """Of an exchange, the same one for all who ask; None if it has no outputs."""
    if exchange.predicted is None and exchange.model is not None and exchange.outputs:
        exchange.predicted = Predicted(exchange.model, exchange.outputs)
    return exchange.predicted


def predicted(model: ServedModel, outputs: Sequence[Array]) -> dict[str, Any]:
    """`labels` and `scores` of each row, as JSON values.

    outputs: (rows, ...) in the signature's order. A model with labels and an output (rows, labels) predicts the label
    with the highest value, the first of several; that value is its score. Of any other model the scores are its first
    numeric output of one value a row, and there are no labels; without such an output there is nothing to compare. A
    score that is not finite counts as 0, which JSON can hold.
    """
    labels = model.manifest.properties.get("labels") or ()
    for tensor, array in zip(model.signature.outputs, outputs, strict=True):
        if tensor.dtype == "string" or array.ndim != 2 or not labels or array.shape[1] != len(labels):
            continue
        if len(array) == 1:
            # Most requests have one row, and Python is done with it before NumPy has begun: 2 us against 14.
            row = array[0].tolist()
            score = max(row)
            if math.isfinite(score):
                return {"labels": [labels[row.index(score)]], "scores": [round(score, 6)]}
        best = array.argmax(axis=1)
        scores = array[np.arange(len(array)), best]
        return {"labels": [labels[index] for index in best.tolist()], "scores": _finite(scores)}
    for tensor, array in zip(model.signature.outputs, outputs, strict=True):
        if tensor.dtype != "string" and array.size == len(array):
            return {"scores": _finite(array.reshape(-1))}
    return {}


def _finite(scores: Array) -> list[float]:
    return [round(score, 6) for score in np.nan_to_num(scores.astype(np.float64), posinf=0, neginf=0).tolist()]
