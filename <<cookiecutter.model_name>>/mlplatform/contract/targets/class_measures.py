"""The metrics that a classifier is judged by, under the names that Keras and scikit-learn use.

Gate, ghost verdict and report take them from here; metrics.py says what there is. In NumPy, because delivery holds no
scikit-learn, and with weights, because an interval comes from some hundred resamples: tests hold every figure against
scikit-learn's.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.comparison import proportion_interval
from mlplatform.contract.targets import figures
from mlplatform.contract.targets.figures import (
    OF_LABEL,
    ByLabel,
    Figures,
    Floats,
    OfLabel,
    Ranks,
    Whole,
    by_support,
    macro,
    mean,
    ranked,
    ratio,
)

# Probabilities whose order is kept for the resamples: 80 MB. Of more it is worked out each time.
KEPT_RANKS = 10_000_000
# Bins of confidence.
BINS = 10
# How far the probabilities of an example may be from a sum of 1: half precision leaves 1e-3, forgetting softmax more.
SUM_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Sample:
    """What a model said to rows whose label is known.

    labels: the classes in order. true, predicted: (rows,), index into labels; predicted is -1 where there is no valid
    prediction. probabilities: (rows, classes), or None if only the predicted class is known.
    """

    labels: tuple[str, ...]
    true: Whole
    predicted: Whole
    probabilities: Floats | None = None

    def __len__(self) -> int:
        return len(self.true)

    def of_every_class(self) -> Floats:
        """The probabilities. Raises ValueError if only the predicted class is known."""
        if self.probabilities is None:
            raise ValueError("only the predicted class of these rows is known")
        return self.probabilities

    @cached_property
    def counts(self) -> Whole:
        """(classes,): rows with each label."""
        return np.bincount(self.true, minlength=len(self.labels))

    @cached_property
    def cells(self) -> Whole:
        """(rows,): cell of the confusion matrix with a last column for rows without a prediction."""
        columns = len(self.labels) + 1
        return self.true * columns + np.where(self.predicted < 0, columns - 1, self.predicted)

    def ranks(self, label: int) -> Ranks:
        """Of the probability of a class."""
        if label in self._ranks:
            return self._ranks[label]
        ranks = ranked(self.of_every_class()[:, label])
        if self.of_every_class().size <= KEPT_RANKS:
            self._ranks[label] = ranks
        return ranks

    def values(self, names: Iterable[str], weights: Floats | None = None) -> dict[str, float]:
        """Metrics by their names, with each row counted so many times; see `value`."""
        weighted = Weighted(self, weights)
        return {name: value(weighted, name) for name in names}

    @cached_property
    def _ranks(self) -> dict[int, Ranks]:
        return {}


class Weighted(ByLabel):
    """A sample whose rows count so many times. weights: (rows,); None: each once."""

    def __init__(self, sample: Sample, weights: Floats | None = None) -> None:
        self.sample = sample
        self.weights = np.ones(len(sample)) if weights is None else weights

    @cached_property
    def confusion(self) -> Floats:
        """(classes, classes + 1): rows are what is true, columns what was said, the last one nothing valid."""
        classes = len(self.sample.labels)
        cells = np.bincount(self.sample.cells, self.weights, classes * (classes + 1))
        return cells.reshape(classes, classes + 1).astype(np.float64)

    @cached_property
    def hits(self) -> Floats:
        """(classes,): rows of a class that were found."""
        return np.asarray(self.confusion[:, :-1].diagonal())

    @cached_property
    def present(self) -> Floats:
        """(classes,): rows of a class."""
        return np.asarray(self.confusion.sum(axis=1))

    @cached_property
    def said(self) -> Floats:
        """(classes,): rows that were said to be of a class."""
        return np.asarray(self.confusion[:, :-1].sum(axis=0))

    def steps(self, label: int) -> tuple[Floats, Floats]:
        """See ByLabel."""
        return figures.steps(self.sample.ranks(label), self.sample.true == label, self.weights)


def sample(labels: Sequence[str], true: NDArray[np.int32], probabilities: NDArray[np.float32]) -> Sample:
    """Of the probabilities (rows, classes) of rows whose class (rows,) is known.

    Those that are no distribution (not finite, negative, sum not 1) are no prediction, and count as 0.
    """
    finite = np.asarray(np.isfinite(probabilities).all(axis=1))
    clean = np.where(finite[:, None], probabilities, np.float32(0)).astype(np.float64)
    valid = finite & (clean.min(axis=1) >= 0) & (np.abs(clean.sum(axis=1) - 1) <= SUM_TOLERANCE)
    clean[~valid] = 0
    return Sample(tuple(labels), true.astype(np.int64), np.where(valid, clean.argmax(axis=1), -1), clean)


Figure = Callable[[Weighted], float]


def _accuracy(rows: Weighted) -> float:
    return ratio(rows.hits.sum(), rows.present.sum())


def _balanced_accuracy(rows: Weighted) -> float:
    return mean(rows.recall)


def _matthews(rows: Weighted) -> float:
    """Gorodkin (2004), Comput. Biol. Chem. 28, 367; 0 where the truth or the predictions are all the same."""
    total, correct = rows.present.sum(), rows.hits.sum()
    said = np.append(rows.said, rows.confusion[:, -1].sum())
    covariance = correct * total - rows.present @ rows.said
    spread = (total**2 - said @ said) * (total**2 - rows.present @ rows.present)
    return float(covariance / spread**0.5) if spread > 0 else 0.0


def _log_loss(rows: Weighted) -> float:
    """A probability of 0 for what is true would be infinitely wrong: it counts as float32's resolution, 1.2e-7."""
    true = rows.sample.of_every_class()[np.arange(len(rows.sample)), rows.sample.true]
    losses = -np.log(np.clip(true, np.finfo(np.float32).eps, 1))
    # + 0.0: a perfect model's loss is 0, not -0.
    return ratio(losses @ rows.weights, rows.weights.sum()) + 0.0


def _brier_score(rows: Weighted) -> float:
    """Brier (1950), Mon. Weather Rev. 78, 1: of two classes the squared error of one, of more the sum over all."""
    errors = rows.sample.of_every_class() - np.eye(len(rows.sample.labels))[rows.sample.true]
    squares = np.square(errors).sum(axis=1) / (2 if len(rows.sample.labels) == 2 else 1)
    return ratio(squares @ rows.weights, rows.weights.sum())


def _of_all(of_class: OfLabel) -> Figure:
    """Of two classes that of the second one, of more the mean over each against the others."""

    def figure(rows: Weighted) -> float:
        classes = range(len(rows.sample.labels))
        if len(classes) == 2:
            return of_class(rows, 1)
        return mean(np.array([of_class(rows, label) for label in classes]))

    return figure


FIGURES = Figures[Weighted](
    {
        "accuracy": _accuracy,
        "balanced_accuracy": _balanced_accuracy,
        "macro_precision": macro(lambda rows: rows.precision),
        "macro_recall": macro(lambda rows: rows.recall),
        "macro_f1": macro(lambda rows: rows.f1),
        "weighted_precision": by_support(lambda rows: rows.precision),
        "weighted_f1": by_support(lambda rows: rows.f1),
        "matthews_corrcoef": _matthews,
        "roc_auc": _of_all(OF_LABEL["roc_auc"]),
        "average_precision": _of_all(OF_LABEL["average_precision"]),
        "log_loss": _log_loss,
        "brier_score": _brier_score,
    }
)


def value(rows: Weighted, name: str) -> float:
    """A metric, by its name; see Figures."""
    return FIGURES.value(rows, name, rows.sample.labels)


def most_frequent(sample: Sample) -> Sample:
    """What always answering with the most frequent label says to the same rows; its probabilities are the shares."""
    label = int(sample.counts.argmax())
    probabilities = None
    if sample.probabilities is not None:
        shares = sample.counts / max(1, len(sample))
        probabilities = np.broadcast_to(shares, (len(sample), len(shares)))
    return Sample(sample.labels, sample.true, np.full(len(sample), label), probabilities)


def listed(sample: Sample) -> dict[str, float | None]:
    """See Figures."""
    return FIGURES.listed(Weighted(sample), sample.probabilities is not None)


def of_classes(sample: Sample) -> dict[str, dict[str, float | None]]:
    """By label all metrics of one class; see Figures."""
    return FIGURES.of_each(Weighted(sample), sample.labels)


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
            hits, sure = int(right[chosen].sum()), float(confidence[chosen].astype(np.float64).mean())
            described |= {
                "accuracy": hits / examples,
                "confidence": sure,
                **asdict(proportion_interval(hits, examples)),
            }
            error += examples / len(right) * abs(hits / examples - sure)
        bins.append(described)
    return {"error": error, "bins": bins}
