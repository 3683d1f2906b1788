"""Labels that are probably wrong, by what a model says of examples that it did not learn from.

Confident learning (Northcutt et al., 2021, arXiv:1911.00068): a class's threshold is the mean probability that the
model gives it over the examples labelled so. An example is probably mislabelled if another class, the most probable of
those that reach their threshold, is not its label.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.data.catalog import Dataset
from mlplatform.store import manifest
from mlplatform.store.manifest import Manifest
from mlplatform.store.storage import Storage

# What an evaluation keeps: the predictions for the examples of a split, in their order.
PREDICTIONS = {"test": "predictions.npy", "validation": "validation_predictions.npy"}


@dataclass(frozen=True)
class LabelError:
    """An example whose label is probably wrong. row: its index in the dataset.

    suggested: the label that it probably has. probability, probability_of_label: what the model says of both.
    """

    row: int
    id: str
    label: str
    suggested: str
    probability: float
    probability_of_label: float


@dataclass(frozen=True)
class LabelErrors:
    """All that were found, the worst first. run: whose predictions these are; examples: how many there are."""

    run: str
    examples: int
    errors: tuple[LabelError, ...]


def find(storage: Storage, dataset: Dataset, work: Path) -> LabelErrors | None:
    """Label errors by the newest run on a version; None if there is none, or it does not learn labels.

    Raises ArtifactError or StorageError.
    """
    run = _newest_run(storage, dataset.version.id)
    if run is None or len(dataset.labels) < 2:
        return None
    _, content = manifest.fetch(storage, f"runs/{run.id}/evaluation", work)
    rows, pieces = [], []
    start = 0
    for split, size in dataset.split_sizes().items():
        path = content / PREDICTIONS.get(split, "")
        if split in PREDICTIONS and path.is_file():
            rows.append(np.arange(start, start + size))
            pieces.append(np.load(path))
        start += size
    if not pieces or any(piece.shape[1:] != (len(dataset.labels),) for piece in pieces):
        return None
    indices, probabilities = np.concatenate(rows), np.concatenate(pieces)
    labels = dataset.column("label", indices)
    suspects, suggested = suspected(probabilities, labels)
    ids = dataset.column("id", indices[suspects])
    names = dataset.labels
    errors = [
        LabelError(
            row=int(indices[place]),
            id=example_id.decode(),
            label=names[int(labels[place])],
            suggested=names[int(other)],
            probability=float(probabilities[place, other]),
            probability_of_label=float(probabilities[place, labels[place]]),
        )
        for place, other, example_id in zip(suspects.tolist(), suggested.tolist(), ids.tolist(), strict=True)
    ]
    return LabelErrors(run.id, len(labels), tuple(errors))


def suspected(
    probabilities: NDArray[Any], labels: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of probably mislabelled examples, the worst first, and the label that each probably has.

    probabilities: (examples, classes); labels: (examples,). The worst are those to whose label the model gives the
    least compared with the other one.
    """
    said = np.nan_to_num(probabilities.astype(np.float64))
    given = said[np.arange(len(labels)), labels]
    counts = np.bincount(labels, minlength=said.shape[1])
    totals = np.bincount(labels, weights=given, minlength=said.shape[1])
    # No example of a class, no threshold that one could reach.
    thresholds = np.where(counts > 0, totals / np.maximum(counts, 1), np.inf)
    confident = np.where(said >= thresholds, said, -1.0)
    best = confident.argmax(axis=1)
    most = confident.max(axis=1)
    # Where classes differ in their thresholds, the label may be more probable than the class that reaches its own.
    places = np.flatnonzero((most > given) & (best != labels))
    margin = given[places] - most[places]
    places = places[np.argsort(margin, kind="stable")]
    return places.astype(np.int64), best[places].astype(np.int64)


def _newest_run(storage: Storage, version: str) -> Manifest | None:
    """The evaluation of the newest run on a version that has one."""
    evaluations = [
        evaluation
        for run in storage.directories("runs/")
        if (training := manifest.find(storage, f"runs/{run}/training")) is not None
        and training.properties.get("dataset") == version
        and (evaluation := manifest.find(storage, f"runs/{run}/evaluation")) is not None
    ]
    return max(evaluations, key=lambda evaluation: evaluation.created_at, default=None)
