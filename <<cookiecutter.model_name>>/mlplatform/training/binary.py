"""What is worth knowing of a model with two classes: its curves, and a threshold with what it costs.

The positive class is the second of the labels, as in scikit-learn and Keras.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.targets.class_measures import Sample

Floats = NDArray[np.float64]
Points = list[tuple[float, float]]

POSITIVE = 1
# Points of a curve that are kept: more than a chart has pixels show nothing more.
POINTS = 200


@dataclass(frozen=True)
class Threshold:
    """A probability of the positive class from which on an example is said to be positive.

    chosen_by: `cost` or `f1`; cost_of_miss: of a positive example that is missed, in false alarms; None with `f1`.
    """

    value: float
    chosen_by: str
    cost_of_miss: float | None

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Costs:
    """What a threshold leads to on some rows. precision, recall: None where they would divide by zero."""

    threshold: float
    found: int
    misses: int
    false_alarms: int
    rejected: int

    @property
    def precision(self) -> float | None:
        """Share of the alarms that are right."""
        return self.found / (self.found + self.false_alarms) if self.found + self.false_alarms else None

    @property
    def recall(self) -> float | None:
        """Share of the positive rows that are found."""
        return self.found / (self.found + self.misses) if self.found + self.misses else None

    def cost(self, cost_of_miss: float) -> float:
        """In false alarms per 1,000 rows."""
        rows = self.found + self.misses + self.false_alarms + self.rejected
        return 1000 * (self.false_alarms + cost_of_miss * self.misses) / rows


def choose_threshold(validation: Sample, cost_of_miss: float | None) -> Threshold | None:
    """The threshold that costs least on the validation split, or without costs has the highest F1 there.

    None if not both classes are in the split. Of several that are equally good the highest.
    """
    if len(validation.labels) != 2 or not validation.counts.all():
        return None
    from sklearn.metrics import confusion_matrix_at_thresholds

    truth, scores = validation.true == POSITIVE, _scores(validation)
    _, false_alarms, misses, found, thresholds = confusion_matrix_at_thresholds(truth, scores)
    if cost_of_miss is None:
        best = int(np.argmax(2 * found / np.maximum(1, 2 * found + false_alarms + misses)))
        return Threshold(float(thresholds[best]), "f1", None)
    best = int(np.argmin(false_alarms + cost_of_miss * misses))
    return Threshold(float(thresholds[best]), "cost", cost_of_miss)


def costs(rows: Sample, threshold: float) -> Costs:
    """How many rows a threshold gets right and wrong."""
    truth, said = rows.true == POSITIVE, _scores(rows) >= threshold
    return Costs(
        threshold,
        found=int((truth & said).sum()),
        misses=int((truth & ~said).sum()),
        false_alarms=int((~truth & said).sum()),
        rejected=int((~truth & ~said).sum()),
    )


def roc(rows: Sample) -> Points:
    """The ROC curve, from (0, 0) to (1, 1): false positive rate and recall."""
    from sklearn.metrics import roc_curve

    false_positives, recall, _ = roc_curve(rows.true == POSITIVE, _scores(rows))
    return _thinned(false_positives, recall)


def precision_recall(rows: Sample) -> Points:
    """Recall and precision, from the highest threshold to the lowest."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(rows.true == POSITIVE, _scores(rows), drop_intermediate=True)
    # Its last point, recall 0 and precision 1, is of no threshold.
    return _thinned(recall[-2::-1], precision[-2::-1])


def _scores(rows: Sample) -> Floats:
    return rows.of_every_class()[:, POSITIVE]


def _thinned(x: Floats, y: Floats) -> Points:
    places = np.unique(np.linspace(0, len(x) - 1, min(len(x), POINTS)).round().astype(int))
    return [(float(x[place]), float(y[place])) for place in places]
