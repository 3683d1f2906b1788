"""The gate: whether a model may be published. It is closed unless every requirement is met."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlplatform.contract import targets
from mlplatform.contract.comparison import Constant, Opponent
from mlplatform.contract.criteria import Criteria, Criterion
from mlplatform.contract.metrics import split_name
from mlplatform.contract.targets.base import Target
from mlplatform.contract.targets.clauses import apart

# Float32 through another graph: sums in another order. 1e-4 is a hundred times what that changes in the sample model.
EXPORT_TOLERANCE = 1e-4


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


def why_incomparable(there: Mapping[str, Any], trained: Mapping[str, Any]) -> str:
    """Why a model with the properties `trained` does another task than one with those of `there`, or nothing."""
    inputs, inputs_there = (
        {i["name"]: f"{i['name']} {i['dtype']}{i['shape'][1:]}" for i in properties["signature"]["inputs"]}
        for properties in (trained, there)
    )
    if inputs != inputs_there:
        return f"it takes other inputs: {_difference(inputs_there.values(), inputs.values())}"
    here, other = targets.of_manifest(trained), targets.of_manifest(there)
    if here is None or other is None or here.kind != other.kind or here.name != other.name:
        return f"it learned another target: {_described(other)} there, {_described(here)} here"
    return here.why_other(other)


def judge(
    target: Target,
    metrics: Mapping[str, Any],
    criteria: Criteria,
    opponent: Opponent,
    constant: Constant | None = None,
) -> Verdict:
    """The verdict on a model.

    metrics: of `target.metrics`, and `export_difference`: by `target.difference` between the exported and the trained
    model, null if it is no number. constant: of `target.against_constant`. The gate is closed for each of these
    reasons:

    - the exported model does not predict what the trained one does, or predicts what is not valid;
    - always answering the same is not certainly worse in any metric that is asked for;
    - a metric does not reach its `minimum`, or `maximum` where lower is better; exactly this figure is enough;
    - of classes: recall of one is certainly lower than production's, over all of them, and by more than the margin;
    - a metric is worse than production's by more than its `maximum_regression`; by exactly this much is allowed;
    - a metric is worse by less, but that is no chance (McNemar's exact test for accuracy, else the interval), and how
      much is lost may be more than `maximum_regression` (the interval of the difference reaches beyond it).

    So the margin lets pass what may be chance, and a loss that is certain only if it is certainly within the margin:
    with few examples that means no proven loss, with very many whatever the margin says. A test that demanded proof of
    equality instead would refuse an equally good model at a margin of 1 % on less than about a thousand examples.

    Several targets are each judged so, and every one of them has to pass.
    """
    reasons = [*_against_export(target, metrics), *_against_target(target, metrics, criteria, opponent, constant)]
    return Verdict(criteria, opponent, constant, tuple(reasons))


def _against_target(
    target: Target, metrics: Mapping[str, Any], criteria: Criteria, opponent: Opponent, constant: Constant | None
) -> Iterator[str]:
    """What is against the predictions for a target; for several, against each, behind its name."""
    if len(target.parts) > 1:
        if opponent.unusable:
            yield opponent.unusable
        for part in target.parts:
            own = (metrics["targets"][part.name], criteria.of(part.name), opponent.of(part.name))
            against = constant.targets.get(part.name) if constant else None
            yield from (f"{part.name}: {reason}" for reason in _against_target(part, *own, against))
        return
    if metrics["invalid"]:
        yield (
            f"what the exported model predicts for {metrics['invalid']} of {metrics['examples']} test examples are "
            f"{target.invalid}"
        )
    if constant and not constant.beaten:
        yield constant.in_words()
    for row in criteria.rows:
        yield from _against_bound(metrics, row)
    if opponent.unusable:
        yield opponent.unusable
    if opponent.comparison:
        yield from target.losses(opponent, criteria)


def figure(metrics: Mapping[str, Any], name: str) -> float | None:
    """A metric of `target.metrics`, by its name, such as `macro_f1` or `recall.fraud`; None if it has no value."""
    metric, label = split_name(name)
    value = metrics.get(metric) if label is None else metrics.get("classes", {}).get(label, {}).get(metric)
    return None if value is None else float(value)


def _against_export(target: Target, metrics: Mapping[str, Any]) -> Iterator[str]:
    difference = metrics["export_difference"]
    if difference is None:
        yield (
            f"the exported model's {target.predictions} cannot be held against the trained model's: not all are finite"
        )
    elif difference > EXPORT_TOLERANCE:
        yield (
            f"the exported model's {target.predictions} differ from the trained model's by {difference:.2g}, more than "
            f"the {EXPORT_TOLERANCE:g} that rounding explains"
        )


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
                f"{name} has no value on the test split, and [{row.table}] asks for one: no example has or gets "
                "the label, or the model was evaluated before there was such a table and has to be trained again"
            )
        elif row.minimum is not None and value < row.minimum:
            yield (
                f"{name} {apart(value, row.minimum)} on the test split is below minimum {row.minimum:g} of "
                f"[{row.table}]"
            )
        elif row.maximum is not None and value > row.maximum:
            yield (
                f"{name} {apart(value, row.maximum)} on the test split is above maximum {row.maximum:g} of "
                f"[{row.table}]"
            )


def _difference(there: Any, here: Any) -> str:
    only_there, only_here = (
        [str(x) for x in one if x not in list(other)] for one, other in ((there, here), (here, there))
    )
    parts = [
        f"{', '.join(names)} only {place}" for names, place in ((only_there, "there"), (only_here, "here")) if names
    ]
    return "; ".join(parts) or "the same in another order"


def _described(target: Target | None) -> str:
    return f"{target.name!r}, of kind {target.kind!r}," if target else "none"
