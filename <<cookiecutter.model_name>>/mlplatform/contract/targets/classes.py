"""Classes: one label out of a list, by the probability of each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.comparison import Comparison, Constant, Opponent, Share, proportion_interval
from mlplatform.contract.criteria import DEFAULT, Criteria
from mlplatform.contract.drift import histogram
from mlplatform.contract.labels import label_text, label_texts
from mlplatform.contract.metrics import METRICS, split_name
from mlplatform.contract.resampling import Rows, changes
from mlplatform.contract.targets import class_measures
from mlplatform.contract.targets.base import Answers, Array, Objects, Target
from mlplatform.contract.targets.class_judging import (
    LabelAgreement,
    accuracy_lost,
    judge_accuracy,
    lost_recall,
    recall_lost,
    recall_margin,
)
from mlplatform.contract.targets.class_measures import Sample, most_frequent
from mlplatform.contract.targets.clauses import Clauses
from mlplatform.contract.targets.label_lists import some, unknown, why_others

# What an output has to be near to before the training: sums of float32, and a loss that has not begun to work.
TOLERANCE = 0.02

# What stands for a metric of each class by itself where a figure of all classes is needed.
_OF_ALL = {"recall": "balanced_accuracy", "precision": "macro_precision", "f1": "macro_f1"}


@dataclass(frozen=True)
class Classes(Target):
    """One label out of `labels`; the model gives `probabilities` in their order.

    Labels may be given as numbers or booleans; they are text from here on.
    """

    label_list: tuple[str, ...]

    kind = "classes"
    default = DEFAULT
    loss = "sparse_categorical_crossentropy"
    truths = "labels that are positions in model.LABELS"
    labels_agree = True
    headline = "accuracy"
    metric = "accuracy"
    predictions = "probabilities"
    one = "a probability"
    invalid = "no probabilities: not finite, negative, or not adding up to 1"
    output = "probabilities"

    def __init__(self, name: str, labels: Sequence[object]) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "label_list", tuple(label_text(label) for label in labels))

    @property
    def row_shape(self) -> tuple[int, ...]:
        """See the base."""
        return (len(self.labels),)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of the probabilities."""
        return self.label_list

    @property
    def value_names(self) -> tuple[str, ...]:
        """See the base."""
        return self.label_list

    @property
    def has_threshold(self) -> bool:
        """Of two classes."""
        return len(self.labels) == 2

    def check(self) -> None:
        """Raises SettingsError if there are fewer than two labels, or two are the same text."""
        label_texts(self.labels)

    def to_json(self) -> dict[str, Any]:
        """See the base."""
        return {**super().to_json(), "labels": list(self.labels)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Classes":
        """See the base."""
        return cls(value["name"], value["labels"])

    def in_words(self, metrics: Mapping[str, Any]) -> str:
        """See the base."""
        return f"accuracy {metrics['accuracy']:.4f}"

    def said(self, metrics: Mapping[str, Any]) -> str:
        """See the base."""
        interval = metrics["accuracy_interval"]
        return (
            f"{self.in_words(metrics)}, between {interval['low']:.4f} and {interval['high']:.4f} with 95 % confidence"
        )

    # The truth.

    def text(self, value: object) -> str:
        """See the base."""
        if not isinstance(value, str | int | float):
            raise ValueError("is no label")
        return label_text(value)

    def texts(self, values: Sequence[object]) -> tuple[list[bytes], NDArray[np.bool_]]:
        """See the base; labels that are text as they are, which takes a fraction of the time."""
        if set(map(type, values)) == {str}:
            return [str(value).encode() for value in values], np.ones(len(values), bool)
        return super().texts(values)

    def encode(self, texts: Sequence[bytes], record: Mapping[str, Any]) -> tuple[Array, NDArray[np.bool_]]:
        """Indices into the labels (n,), int32; valid are labels of the model that the record's schema lists as well."""
        places = {label.encode(): place for label, place in self.allowed(record).items()}
        indices = np.array([places.get(text, -1) for text in texts], np.int32)
        return indices, indices >= 0

    def allowed(self, record: Mapping[str, Any]) -> dict[str, int]:
        """Labels that a record may have, with their index. A schema that lists none allows all of the model's."""
        listed = record.get("properties", {}).get(self.name, {})
        names = {label_text(label) for label in listed.get("enum", self.labels)} if isinstance(listed, dict) else None
        return {label: place for place, label in enumerate(self.labels) if names is None or label in names}

    def identity(self) -> list[str]:
        """See the base: the labels alone, which decide their indices."""
        return list(self.labels)

    def described(self, truth: Array) -> dict[str, Any]:
        """`classes`: by label its examples."""
        return {"classes": dict(zip(self.labels, np.bincount(truth, minlength=len(self.labels)).tolist(), strict=True))}

    def decode(self, truth: Any) -> str:
        """See the base."""
        return self.labels[int(truth)]

    def feedback(self, value: object) -> str:
        """See the base."""
        if not isinstance(value, str | int | float):
            raise ValueError("expected text")
        label = label_text(value)
        if self.labels and label not in self.labels:
            raise ValueError(f"the model knows: {some(self.labels)}")
        return label

    def known(self, value: object) -> str | None:
        """A label of an event, also one that the model does not know: it is a mistake then."""
        return None if value is None else label_text(value)

    # The network.

    def output_fault(self, shape: tuple[int | None, ...] | None) -> str:
        """See the base."""
        if shape == (None, len(self.labels)):
            return ""
        return f"one probability for each of the {len(self.labels)} labels of model.LABELS, (None, {len(self.labels)})"

    def fits_loss(self, name: str) -> bool:
        """Not those for other labels: mse, for one, computes nonsense of an index, and no error."""
        return "sparse" in name.lower()

    def prediction_fault(self, served: NDArray[np.float32]) -> str:
        """See the base."""
        if not np.isfinite(served).all():
            return "a prediction is not finite after one step; lower the learning rate, or scale"
        sums = served.sum(axis=1)
        if served.min() < -TOLERANCE or np.abs(sums - 1).max() > TOLERANCE:
            return (
                f"the output is no probability, a row sums to {sums[np.abs(sums - 1).argmax()]:.3g}; end with "
                "activation='softmax', and a loss with from_logits=False"
            )
        return ""

    def difference(self, found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
        """The largest difference of a probability."""
        return float(np.abs(found - expected).max())

    def agreeing(self, found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
        """With the same label."""
        return float(np.mean(found.argmax(axis=1) == expected.argmax(axis=1)))

    # Rows whose truth is known.

    def rows(self, truth: Array, predictions: NDArray[np.float32]) -> Sample:
        """See the base."""
        return class_measures.sample(self.labels, truth, predictions)

    def metrics(self, rows: Sample) -> dict[str, Any]:
        """All of `class_measures.listed`, such as `accuracy` and `macro_f1`, and `accuracy_interval` (Wilson, 95 %);
        `calibration`, see there; `classes`, by name: `examples` with this label, and each metric of one class, null
        where it would divide by zero; `confusion`: rows are what an example is, columns what the model says; `invalid`:
        examples whose probabilities are no distribution (not finite, negative, sum not 1) and count as no prediction.
        """
        right = rows.predicted == rows.true
        of_classes = class_measures.of_classes(rows)
        return {
            "examples": len(rows),
            "correct": int(right.sum()),
            "accuracy_interval": asdict(proportion_interval(int(right.sum()), len(rows))),
            **class_measures.listed(rows),
            "calibration": class_measures.calibration(rows.of_every_class().max(axis=1), right),
            "invalid": int((rows.predicted < 0).sum()),
            "classes": {
                name: {"examples": int(examples), **of_classes[name]}
                for name, examples in zip(self.labels, rows.counts, strict=True)
            },
            "confusion": class_measures.Weighted(rows).confusion[:, :-1].astype(np.int64).tolist(),
        }

    # The gate.

    def label_faults(self, criteria: Criteria) -> Iterator[str]:
        """See the base."""
        if self.labels:
            yield from unknown(criteria, self.labels)

    def compare(self, production: str, model: Sample, other: Sample, criteria: Criteria) -> Opponent:
        """See the base."""
        right, other_right = model.predicted == model.true, other.predicted == other.true
        return Opponent(
            Comparison.of(production, right, other_right),
            changes(model, other, [row.metric for row in criteria.judged if row.metric != "accuracy"]),
            {
                label: Comparison.of(production, right[rows], other_right[rows])
                for place, label in enumerate(model.labels)
                if (rows := model.true == place).any()
            },
        )

    def against_constant(self, model: Sample, criteria: Criteria, learned: Array | None = None) -> Constant | None:
        """Beside always answering with the most frequent label of these very rows."""
        if criteria.asks_nothing:
            return None
        other = most_frequent(model)
        label = model.labels[int(other.predicted[0])]
        names = [_OF_ALL.get(row.metric, row.metric) for row in criteria.rows if not row.asks_nothing]
        names = list(dict.fromkeys(names))
        comparison = None
        if "accuracy" in names:
            comparison = Comparison.of(label, model.predicted == model.true, other.predicted == other.true)
        return Constant(label, comparison, tuple(changes(model, other, (n for n in names if n != "accuracy")).values()))

    def losses(self, opponent: Opponent, criteria: Criteria) -> Iterator[str]:
        """See the base; accuracy by McNemar's exact test, and recall of each class over all of them together."""
        lost = lost_recall(opponent.classes, recall_margin(criteria))
        if lost:
            yield recall_lost(lost, "test examples")
        margin = criteria.margin("accuracy")
        if margin is not None and isinstance(opponent.comparison, Comparison):
            yield from accuracy_lost(opponent.comparison, margin)
        yield from super().losses(opponent, criteria)

    def why_other(self, there: Target) -> str:
        """See the base."""
        return why_others(self.labels, there.labels)

    # Serving.

    def noted(self, output: Array) -> tuple[list[str] | None, Array]:
        """The label with the highest value, the first of several; that value is its score."""
        labels = self.label_list
        return [labels[place] for place in output.argmax(axis=1).tolist()], output.max(axis=1)

    def signals(self, output: Array) -> dict[str, Array]:
        """`classes`: the index of the label predicted; `confidence`: its probability."""
        classes = output.argmax(axis=1)
        return {"classes": classes, "confidence": output[np.arange(len(classes)), classes]}

    def frequencies(self, signals: Mapping[str, Array]) -> Array:
        """See the base."""
        return np.bincount(signals["classes"], minlength=len(self.labels))

    def edges(self, baseline: Mapping[str, Any]) -> dict[str, tuple[Array | None, Sequence[float]]]:
        """See the base."""
        confidence = baseline["confidence"]
        return {
            "classes": (None, [baseline["classes"].get(label, 0.0) for label in self.labels]),
            "confidence": (np.asarray(confidence["edges"]), confidence["shares"]),
        }

    def baseline(self, predictions: NDArray[np.float32]) -> dict[str, Any]:
        """`classes`: by label its share of what is predicted; `confidence`: a histogram."""
        signals = self.signals(predictions)
        shares = self.frequencies(signals) / len(predictions)
        return {
            "classes": dict(zip(self.labels, shares.tolist(), strict=True)),
            "confidence": histogram(signals["confidence"]),
        }

    # Ghosts.

    def observed(self, truth: Objects, answers: Sequence[Answers]) -> list[Sample]:
        """An event holds the predicted label and its probability: of two classes that is all there is to know.

        Labels that only the rows have follow those of the model.
        """
        columns = [truth, *(said.labels for said in answers)]
        seen = {str(label) for column in columns for label in column}
        labels = (*self.labels, *sorted(seen - {*self.labels}))
        places = {label: place for place, label in enumerate(labels)}
        indices = [np.array([places[str(label)] for label in column], np.int64) for column in columns]
        samples = []
        for said, predicted in zip(answers, indices[1:], strict=True):
            probabilities = None
            if len(labels) == 2:
                rows = np.arange(len(truth))
                probabilities = np.empty((len(truth), 2))
                probabilities[rows, predicted], probabilities[rows, 1 - predicted] = said.scores, 1 - said.scores
            samples.append(Sample(labels, indices[0], predicted, probabilities))
        return samples

    def comparable(self, answers: Answers) -> NDArray[np.bool_]:
        """See the base: those with a label."""
        return np.array([label is not None for label in answers.labels], bool)

    def counted(self, rows: Sample) -> dict[str, int]:
        """See the base."""
        return dict(zip(rows.labels, rows.counts.tolist(), strict=True))

    def right(self, rows: Sample) -> Share | None:
        """See the base."""
        return Share(int((rows.predicted == rows.true).sum()), len(rows)) if len(rows) else None

    def measurable(self, metric: str, rows: Sample) -> bool:
        """See the base."""
        name, label = split_name(metric)
        has_label = label is None or label in rows.labels
        return has_label and (rows.probabilities is not None or not METRICS[name].probabilities)

    def intervals(self, rows: Rows, names: Iterable[str]) -> dict[str, tuple[float, float, float]]:
        """See the base; accuracy with Wilson's interval."""
        found = super().intervals(rows, names)
        if "accuracy" in found and isinstance(rows, Sample):
            bounds = proportion_interval(int((rows.predicted == rows.true).sum()), len(rows))
            found["accuracy"] = (bounds.low, found["accuracy"][1], bounds.high)
        return found

    def agreement(self, live: Answers, ghost: Answers, truth: Objects) -> LabelAgreement | None:
        """See the base."""
        both = self.comparable(live) & self.comparable(ghost)
        if not both.any():
            return None
        return LabelAgreement.of(live.labels[both], ghost.labels[both], truth[both])

    def all_the_same(self, rows: Sample) -> str:
        """See the base."""
        present = np.flatnonzero(rows.counts)
        return rows.labels[int(present[0])] if len(present) == 1 else ""

    def judge(self, opponent: Opponent, criteria: Criteria, clauses: Clauses) -> None:
        """See the base; accuracy by McNemar's exact test, and recall of each class over all of them together."""
        margin = criteria.margin("accuracy")
        if margin is not None and isinstance(opponent.comparison, Comparison):
            judge_accuracy(opponent.comparison, margin, clauses)
        super().judge(opponent, criteria, clauses)
        lost = lost_recall(opponent.classes, recall_margin(criteria))
        if lost:
            clauses.against.append(recall_lost(lost, "rows"))
        for label, counted in opponent.classes.items():
            # A class that the ghost never finds is told, also if it has too few rows for that to be certain.
            if label not in lost and not counted.both + counted.only_model and counted.only_production:
                clauses.open.append(
                    f"of {label!r} the ghost finds none and the live model {counted.only_production} of "
                    f"{counted.examples} rows: more labels would tell"
                )
