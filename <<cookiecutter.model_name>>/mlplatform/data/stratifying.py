"""Stratified splits: of each label the same share, and of a rare one an example, in every split."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.errors import BadDataError
from mlplatform.data.columns import load, numbers, texts
from mlplatform.data.dataset import SOURCE, Schema
from mlplatform.data.parts import Part
from mlplatform.data.splitting import SplitRule, positions
from mlplatform.store.manifest import fetch
from mlplatform.store.storage import Storage

Bounds = NDArray[np.float64]


def bounds(storage: Storage, parts: Sequence[Part], schema: Schema, rule: SplitRule, work: Path) -> Bounds:
    """(labels, 2): below which positions of its id's hash an example of a label is for the test, or the validation.

    Only ids' hashes and labels are read, 16 bytes an example. Raises BadDataError if the target has no labels, or if
    steps made examples of several labels of one record.
    """
    count = len(schema.target.labels)
    if not count:
        raise BadDataError(
            f"split_stratified divides by an example's one label, and {schema.target.name!r} has none; leave it out"
        )
    found, labels = [np.empty(0, np.float64)], [np.empty(0, np.int64)]
    for part in parts:
        _, content = fetch(storage, part.prefix, work)
        for path in sorted(content.glob("*.npz")):
            columns = load(path, ("high", "of", "label", SOURCE))
            truth, valid = schema.target.encode(texts(columns, "label").array().tolist(), schema.record)
            wanted = np.isin(numbers(columns, "of"), list(part.files)) & valid
            found.append(positions(columns)[wanted])
            labels.append(truth[wanted].astype(np.int64))
    position, label = np.concatenate(found), np.concatenate(labels)
    if schema.steps and len(np.unique(position)) < len(np.unique(np.stack([position, label]), axis=1).T):
        raise BadDataError(
            "split_stratified divides by label, and model.STEPS makes examples of several labels of one record, which "
            "belong into one split; leave it out"
        )
    return np.array([_bounds(np.unique(position[label == index]), rule) for index in range(count)]).reshape(-1, 2)


def _bounds(positions: NDArray[np.float64], rule: SplitRule) -> tuple[float, float]:
    """positions: of all examples of a label, in order. Of two none is for the validation; one is for the training."""
    count = len(positions)
    test = max(min(1, count - 1), round(rule.test_fraction * count)) if count else 0
    validation = max(1, round(rule.validation_fraction * count)) if count > 2 else 0
    # The position of the first example that is beyond, or behind all.
    ends = [*positions.tolist(), 1.0]
    return ends[test], ends[min(count, test + validation)]
