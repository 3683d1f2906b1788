"""The gate: whether a model may be published. It is closed unless every requirement is met."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlplatform.contract.comparison import SIGNIFICANCE, Change, Comparison
from mlplatform.contract.criteria import Criteria, Criterion
from mlplatform.contract.labels import label_text
from mlplatform.contract.measures import Sample, changes, most_frequent
from mlplatform.contract.metrics import split_name

# Float32 through another graph: sums in another order. 1e-4 is a hundred times what that changes in the sample model.
EXPORT_TOLERANCE = 1e-4

# What stands for a metric of each class by itself where a figure of all classes is needed.
_OF_ALL = {"recall": "balanced_accuracy", "precision": "macro_precision", "f1": "macro_f1"}
# Classes named in one reason.
_NAMED = 10


@dataclass(frozen=True)
class Opponent:
    """What the model is compared with.

    `comparison`: both models on the same examples, `changes` by metric, and `classes`, by label, those of one class.
    Without one, `skipped` says why there is nothing to compare with, which leaves the gate open, or `unusable` why a
    comparison that is due cannot be made, which closes it.
    """

    comparison: Comparison | None = None
    changes: Mapping[str, Change] = field(default_factory=dict)
    classes: Mapping[str, Comparison] = field(default_factory=dict)
    skipped: str = ""
    unusable: str = ""

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads, and `skipped`."""
        comparison = self.comparison
        return {
            "comparison": comparison.to_json() if comparison else None,
            "changes": {name: change.to_json() for name, change in self.changes.items()},
            "recall": {label: counted.counts for label, counted in self.classes.items()},
            "skipped": self.skipped or None,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Opponent":
        """The comparison in a verdict; one that was written before there were tables has that of accuracy alone."""
        counts = value["comparison"]
        production = counts["production"]
        return cls(
            Comparison.counted(production, counts),
            {name: Change(**change) for name, change in value.get("changes", {}).items()},
            {label: Comparison.counted(production, of_class) for label, of_class in value.get("recall", {}).items()},
        )


@dataclass(frozen=True)
class Constant:
    """The model against always answering with the most frequent label, on the same examples.

    comparison: who is right, with the label as `production`; None if accuracy is not asked for. changes: of the other
    metrics that are asked for.
    """

    label: str
    comparison: Comparison | None
    changes: tuple[Change, ...] = ()

    @property
    def beaten(self) -> bool:
        """Whether the model is better in at least one of them, with 95 % confidence."""
        better = self.comparison is not None and self.comparison.interval().low > 0
        return better or any(change.greatest_loss < 0 for change in self.changes)

    @property
    def behind(self) -> bool:
        """Whether the model is ahead in none of them, proven or not."""
        ahead = self.comparison is not None and self.comparison.difference > 0
        return not ahead and not any(change.loss < 0 for change in self.changes)

    def in_words(self) -> str:
        """The figures of both, as a clause."""
        figures = [f"{c.metric} is {c.model:.4f} against {c.other:.4f}" for c in self.changes]
        if self.comparison:
            own, other = self.comparison.accuracies
            figures = [f"accuracy is {own:.4f} against {other:.4f}", *figures]
        return f"always answering {self.label!r} is not certainly worse (95 %): {', '.join(figures)}"

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "label": self.label,
            "beaten": self.beaten,
            "comparison": self.comparison.to_json() if self.comparison else None,
            "changes": [change.to_json() for change in self.changes],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Constant":
        """See `to_json`. Raises KeyError or TypeError."""
        counts = value["comparison"]
        return cls(
            value["label"],
            Comparison.counted(value["label"], counts) if counts else None,
            tuple(Change(**change) for change in value["changes"]),
        )


@dataclass(frozen=True)
class Verdict:
    """The gate's decision: it is open if there is no reason against it; reasons are clauses without a full stop."""

    criteria: Criteria
    opponent: Opponent
    constant: Constant | None = None
    reasons: tuple[str, ...] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether the model may be published."""
        return not self.reasons

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "passed": self.passed,
            "reasons": list(self.reasons),
            **self.criteria.to_json(),
            "constant": self.constant.to_json() if self.constant else None,
            **self.opponent.to_json(),
        }


def compare(production: str, model: Sample, other: Sample, criteria: Criteria) -> Opponent:
    """The model beside the one in production, on the same rows. production: its version."""
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


def against_constant(model: Sample, criteria: Criteria) -> Constant | None:
    """The model beside always answering with the most frequent label; None if nothing is asked for."""
    if criteria.asks_nothing:
        return None
    other = most_frequent(model)
    label = model.labels[int(other.predicted[0])]
    names = list(dict.fromkeys(_OF_ALL.get(row.metric, row.metric) for row in criteria.rows if not row.asks_nothing))
    comparison = None
    if "accuracy" in names:
        comparison = Comparison.of(label, model.predicted == model.true, other.predicted == other.true)
    return Constant(label, comparison, tuple(changes(model, other, (n for n in names if n != "accuracy")).values()))


def why_incomparable(there: Mapping[str, Any], trained: Mapping[str, Any]) -> str:
    """Why a model with the properties `trained` does another task than one with those of `there`, or nothing."""
    inputs, inputs_there = (
        {i["name"]: f"{i['name']} {i['dtype']}{i['shape'][1:]}" for i in properties["signature"]["inputs"]}
        for properties in (trained, there)
    )
    if inputs != inputs_there:
        return f"it takes other inputs: {_difference(inputs_there.values(), inputs.values())}"
    labels, labels_there = ([label_text(label) for label in properties["labels"]] for properties in (trained, there))
    if labels != labels_there:
        return f"it knows other labels: {_difference(labels_there, labels)}"
    return ""


def judge(
    metrics: Mapping[str, Any], criteria: Criteria, opponent: Opponent, constant: Constant | None = None
) -> Verdict:
    """The verdict on a model.

    metrics: of `evaluation.metrics`, and `export_difference`: the largest difference between a probability of the
    exported and of the trained model, null if it is no number. constant: of `against_constant`. The gate is closed for
    each of these reasons:

    - the exported model does not predict what the trained one does, or predicts what are no probabilities;
    - always answering with the most frequent label is not certainly worse in any metric that is asked for;
    - a metric does not reach its `minimum`, or `maximum` where lower is better; exactly this figure is enough;
    - recall of a class is certainly lower than production's, over all classes together, and by more than the margin;
    - a metric is worse than production's by more than its `maximum_regression`; by exactly this much is allowed;
    - a metric is worse by less, but that is no chance (McNemar's exact test for accuracy, else the interval), and how
      much is lost may be more than `maximum_regression` (the interval of the difference reaches beyond it).

    So the margin lets pass what may be chance, and a loss that is certain only if it is certainly within the margin:
    with few examples that means no proven loss, with very many whatever the margin says. A test that demanded proof of
    equality instead would refuse an equally good model at a margin of 1 % on less than about a thousand examples.
    """
    reasons = [
        *_against_export(metrics),
        *([constant.in_words()] if constant and not constant.beaten else []),
        *(reason for row in criteria.rows for reason in _against_bound(metrics, row)),
        *_against_regression(opponent, criteria),
    ]
    return Verdict(criteria, opponent, constant, tuple(reasons))


def figure(metrics: Mapping[str, Any], name: str) -> float | None:
    """A metric of `evaluation.metrics`, by its name, such as `macro_f1` or `recall.fraud`; None if it has no value."""
    metric, label = split_name(name)
    value = metrics.get(metric) if label is None else metrics.get("classes", {}).get(label, {}).get(metric)
    return None if value is None else float(value)


def lost_recall(classes: Mapping[str, Comparison], margin: float) -> dict[str, Comparison]:
    """The classes whose recall is certainly lower than the other model's, and by more than a margin.

    Certain: the upper end of Tango's score interval is below 0, at a one-sided 95 % for all classes together, which is
    1 - 5 % / classes for each (Bonferroni).
    """
    confidence = 1 - 2 * SIGNIFICANCE / max(1, len(classes))
    return {
        label: counted
        for label, counted in classes.items()
        if -counted.difference > margin and counted.score_interval(confidence).high < 0
    }


def recall_lost(lost: Mapping[str, Comparison], rows: str) -> str:
    """The classes of `lost_recall` in a clause. rows: what is counted, such as `test examples`."""
    told = [
        f"of {label!r} it finds {counted.both + counted.only_model} and {counted.production} "
        f"{counted.both + counted.only_production} of {counted.examples} {rows}"
        for label, counted in list(lost.items())[:_NAMED]
    ]
    more = f", and {len(lost) - _NAMED} more classes" if len(lost) > _NAMED else ""
    return f"recall is certainly lost (95 % over all classes): {', '.join(told)}{more}"


def apart(value: float, threshold: float) -> str:
    """A figure with four decimals, or as many as tell it from its threshold."""
    digits = next((n for n in range(4, 17) if float(f"{value:.{n}f}") != threshold), 17)
    return f"{value:.{digits}f}"


def _against_export(metrics: Mapping[str, Any]) -> list[str]:
    reasons = []
    difference = metrics["export_difference"]
    if difference is None:
        reasons.append(
            "the exported model's probabilities cannot be held against the trained model's: not all are finite"
        )
    elif difference > EXPORT_TOLERANCE:
        reasons.append(
            f"the exported model's probabilities differ from the trained model's by {difference:.2g}, more than "
            f"the {EXPORT_TOLERANCE:g} that rounding explains"
        )
    if metrics["invalid"]:
        reasons.append(
            f"what the exported model predicts for {metrics['invalid']} of {metrics['examples']} test examples are no "
            f"probabilities: not finite, negative, or not adding up to 1"
        )
    return reasons


def _against_bound(metrics: Mapping[str, Any], row: Criterion) -> Iterator[str]:
    if row.minimum is None and row.maximum is None:
        return
    if row.of_each_class:
        names = [f"{row.metric}.{label}" for label in metrics.get("classes", {})]
        names = [name for name in names if figure(metrics, name) is not None]
    else:
        names = [row.metric]
    for name in names:
        value = figure(metrics, name)
        if value is None:
            yield (
                f"{name} has no value on the test split, and [gate.{row.metric}] asks for one: no example has or gets "
                "the label, or the model was evaluated before there was such a table and has to be trained again"
            )
        elif row.minimum is not None and value < row.minimum:
            yield (
                f"{name} {apart(value, row.minimum)} on the test split is below minimum {row.minimum:g} of "
                f"[gate.{row.metric}]"
            )
        elif row.maximum is not None and value > row.maximum:
            yield (
                f"{name} {apart(value, row.maximum)} on the test split is above maximum {row.maximum:g} of "
                f"[gate.{row.metric}]"
            )


def _against_regression(opponent: Opponent, criteria: Criteria) -> Iterator[str]:
    if opponent.unusable:
        yield opponent.unusable
    comparison = opponent.comparison
    if comparison is None:
        return
    lost = lost_recall(opponent.classes, criteria.recall_margin)
    if lost:
        yield recall_lost(lost, "test examples")
    for row in criteria.judged:
        margin = row.maximum_regression or 0.0
        if row.metric == "accuracy":
            yield from _accuracy_lost(comparison, margin)
        elif row.metric in opponent.changes:
            yield from _lost(opponent.changes[row.metric], margin, comparison)


def _accuracy_lost(comparison: Comparison, margin: float) -> Iterator[str]:
    loss = -comparison.difference
    if loss <= 0:
        return
    lost = (
        f"accuracy is {apart(loss, margin)} lower than that of {comparison.production} in production on the same "
        f"{comparison.examples} test examples"
    )
    worst = -comparison.interval().low
    p_value = comparison.p_value()
    if loss > margin:
        yield f"{lost}, more than maximum_regression {margin:g}"
    elif p_value < SIGNIFICANCE and worst > margin:
        yield (
            f"{lost}, which is no chance (McNemar's exact test, p = {p_value:.2g}) and may really be "
            f"{apart(worst, margin)}, more than maximum_regression {margin:g}"
        )


def _lost(change: Change, margin: float, comparison: Comparison) -> Iterator[str]:
    # Rounded, so that a loss of exactly the margin is one.
    loss = round(change.loss, 12)
    if loss <= 0:
        return
    lost = (
        f"{change.metric} is {apart(loss, margin)} {'lower' if change.higher_is_better else 'higher'} than that "
        f"of {comparison.production} in production on the same {comparison.examples} test examples"
    )
    if loss > margin:
        yield f"{lost}, more than maximum_regression {margin:g}"
    elif change.least_loss > 0 and change.greatest_loss > margin:
        yield (
            f"{lost}, which is no chance (95 %) and may really be {apart(change.greatest_loss, margin)}, more than "
            f"maximum_regression {margin:g}"
        )


def _difference(there: Any, here: Any) -> str:
    only_there, only_here = (
        [str(x) for x in one if x not in list(other)] for one, other in ((there, here), (here, there))
    )
    parts = [
        f"{', '.join(names)} only {place}" for names, place in ((only_there, "there"), (only_here, "here")) if names
    ]
    return "; ".join(parts) or "the same in another order"
