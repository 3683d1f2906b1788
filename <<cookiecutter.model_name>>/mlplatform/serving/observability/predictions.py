"""What a model said, in the form that answers are compared in: labels and scores."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mlplatform.contract.targets import Target
from mlplatform.serving.model.service import ServedModel
from mlplatform.serving.model.signature import Array


class Predicted(NamedTuple):
    """What a model said to several requests.

    rows: of each request. labels, scores: of all rows, one after the other; None if there are none. scores are finite
    and of (rows,), float32 or float64.
    """

    rows: list[int]
    labels: list[str] | None
    scores: Array | None


def predicted(model: ServedModel, answers: Sequence[Sequence[Array]]) -> Predicted:
    """Labels and scores, worked out for many requests at once, which takes less time than one by one.

    answers: of each request its outputs of (rows, ...) in the signature's order; none where it failed. Of a model with
    a target it is what the target notes of its output. Of any other model the scores are its first numeric output of
    one value a row, and there are no labels; without such an output, or if its shape differs between the requests,
    there is nothing to compare. A score that is not finite counts as 0, which JSON can hold.
    """
    target = model.target
    if target is not None and len(target.parts) > 1:
        return _of_several(model, target, answers)
    said = [outputs for outputs in answers if outputs]
    numeric = [place for place, tensor in enumerate(model.signature.outputs) if tensor.dtype != "string"]
    nothing = Predicted([0] * len(answers), None, None)
    if not said:
        return nothing
    place = next((n for n in numeric if target and said[0][n].shape[1:] == target.row_shape), None)
    noted = target.noted if target and place is not None else None
    if place is None:
        place = next((n for n in numeric if said[0][n].size == len(said[0][n])), None)
    if place is None:
        return nothing
    try:
        whole = np.concatenate([outputs[place] for outputs in said])
    except ValueError:
        return nothing
    rows = [len(outputs[place]) if outputs else 0 for outputs in answers]
    labels, scores = noted(whole) if noted else (None, whole.reshape(-1))
    return Predicted(rows, labels, _finite(scores))


def _of_several(model: ServedModel, target: Target, answers: Sequence[Sequence[Array]]) -> Predicted:
    """What several targets note of the outputs that have their names."""
    said = [outputs for outputs in answers if outputs]
    if not said:
        return Predicted([0] * len(answers), None, None)
    names = [tensor.name for tensor in model.signature.outputs]
    whole = {name: np.concatenate([outputs[names.index(name)] for outputs in said]) for name in target.outputs}
    labels, scores = target.noted(target.joined(whole))
    return Predicted([len(outputs[0]) if outputs else 0 for outputs in answers], labels, _finite(scores))


def _finite(scores: Array) -> Array:
    scores = scores if scores.dtype in (np.float32, np.float64) else scores.astype(np.float64)
    return scores if np.isfinite(scores).all() else np.nan_to_num(scores, posinf=0, neginf=0)
