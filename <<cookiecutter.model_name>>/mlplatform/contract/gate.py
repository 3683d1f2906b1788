"""The gate: whether a model may be published. It is closed unless every requirement is met."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.comparison import SIGNIFICANCE, Comparison

# Float32 through another graph: sums in another order. 1e-4 is a hundred times what that changes in the sample model.
EXPORT_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Thresholds:
    """What a model must reach: shares of the test split."""

    minimum_accuracy: float
    maximum_regression: float


@dataclass(frozen=True)
class Opponent:
    """What the model is compared with.

    `comparison`: both models on the same examples. Without one, `skipped` says why there is nothing to compare with,
    which leaves the gate open, or `unusable` why a comparison that is due cannot be made, which closes it.
    """

    comparison: Comparison | None = None
    skipped: str = ""
    unusable: str = ""


@dataclass(frozen=True)
class Verdict:
    """The gate's decision: it is open if there is no reason against it; reasons are clauses without a full stop."""

    thresholds: Thresholds
    opponent: Opponent
    reasons: tuple[str, ...] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether the model may be published."""
        return not self.reasons

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        comparison = self.opponent.comparison
        return {
            "passed": self.passed,
            "reasons": list(self.reasons),
            **asdict(self.thresholds),
            "comparison": comparison.to_json() if comparison else None,
            "skipped": self.opponent.skipped or None,
        }


def compare(
    production: str, labels: NDArray[np.int32], model: NDArray[np.int64], other: NDArray[np.int64]
) -> Comparison:
    """Count who is right. labels, model and other: (examples,), class that is true, predicted, predicted in
    production; production: its version.
    """
    right, other_right = model == labels, other == labels
    return Comparison(
        production,
        both=int((right & other_right).sum()),
        only_model=int((right & ~other_right).sum()),
        only_production=int((~right & other_right).sum()),
        neither=int((~right & ~other_right).sum()),
    )


def why_incomparable(there: Mapping[str, Any], trained: Mapping[str, Any]) -> str:
    """Why a model with the properties `trained` does another task than one with those of `there`, or nothing."""
    inputs, inputs_there = (
        {i["name"]: f"{i['name']} {i['dtype']}{i['shape'][1:]}" for i in properties["signature"]["inputs"]}
        for properties in (trained, there)
    )
    if inputs != inputs_there:
        return f"it takes other inputs: {_difference(inputs_there.values(), inputs.values())}"
    if list(trained["labels"]) != list(there["labels"]):
        return f"it knows other labels: {_difference(there['labels'], trained['labels'])}"
    return ""


def judge(metrics: Mapping[str, Any], thresholds: Thresholds, opponent: Opponent) -> Verdict:
    """The verdict on a model.

    metrics: of `evaluation.metrics`, and `export_difference`: the largest difference between a probability of the
    exported and of the trained model, null if it is no number. The gate is closed for each of these reasons:

    - the exported model does not predict what the trained one does, or predicts what are no probabilities;
    - accuracy is below `minimum_accuracy`; exactly this accuracy is enough;
    - accuracy is lower than production's by more than `maximum_regression`; by exactly this much is allowed;
    - accuracy is lower than production's by less, but that is no chance (McNemar's exact test, 5 %), and how much is
      lost may be more than `maximum_regression` (the interval of the difference reaches beyond it).

    So the margin lets pass what may be chance, and a loss that is certain only if it is certainly within the margin:
    with few examples that means no proven loss, with very many whatever the margin says. A test that demanded proof of
    equality instead would refuse an equally good model at a margin of 1 % on less than about a thousand examples.
    """
    reasons = [
        *_against_export(metrics),
        *_against_accuracy(metrics, thresholds.minimum_accuracy),
        *_against_regression(opponent, thresholds.maximum_regression),
    ]
    return Verdict(thresholds, opponent, tuple(reasons))


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


def _against_accuracy(metrics: Mapping[str, Any], minimum: float) -> list[str]:
    accuracy = metrics["accuracy"]
    if accuracy >= minimum:
        return []
    return [f"accuracy {_apart(accuracy, minimum)} on the test split is below minimum_accuracy {minimum:g}"]


def _against_regression(opponent: Opponent, margin: float) -> list[str]:
    if opponent.unusable:
        return [opponent.unusable]
    comparison = opponent.comparison
    if comparison is None or comparison.difference >= 0:
        return []
    loss = -comparison.difference
    lost = (
        f"accuracy is {_apart(loss, margin)} lower than that of {comparison.production} in production on the same "
        f"{comparison.examples} test examples"
    )
    if loss > margin:
        return [f"{lost}, more than maximum_regression {margin:g}"]
    worst = -comparison.interval().low
    p_value = comparison.p_value()
    if p_value < SIGNIFICANCE and worst > margin:
        return [
            f"{lost}, which is no chance (McNemar's exact test, p = {p_value:.2g}) and may really be "
            f"{_apart(worst, margin)}, more than maximum_regression {margin:g}"
        ]
    return []


def _apart(value: float, threshold: float) -> str:
    """A figure with four decimals, or as many as tell it from its threshold."""
    digits = next((n for n in range(4, 17) if float(f"{value:.{n}f}") != threshold), 17)
    return f"{value:.{digits}f}"


def _difference(there: Any, here: Any) -> str:
    only_there, only_here = (
        [str(x) for x in one if x not in list(other)] for one, other in ((there, here), (here, there))
    )
    parts = [
        f"{', '.join(names)} only {place}" for names, place in ((only_there, "there"), (only_here, "here")) if names
    ]
    return "; ".join(parts) or "the same in another order"
