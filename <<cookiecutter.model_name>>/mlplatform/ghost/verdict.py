"""What follows from the figures: promote, hold, reject, or that it is too early to say."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mlplatform.config.hints import hint
from mlplatform.contract.comparison import SIGNIFICANCE, Change, Comparison
from mlplatform.contract.criteria import Criteria, Criterion
from mlplatform.contract.drift import SHIFTED
from mlplatform.contract.gate import Opponent, apart, lost_recall, recall_lost
from mlplatform.ghost.observed import Observed
from mlplatform.ghost.settings import GhostSettings
from mlplatform.ghost.statistics import Figures, Task


class Decision(StrEnum):
    """What to do with a ghost."""

    PROMOTE = "promote"
    HOLD = "hold"
    REJECT = "reject"
    NOT_ENOUGH_DATA = "not enough data"


@dataclass(frozen=True)
class Verdict:
    """The decision and every reason for it; reasons are clauses without a full stop. `found`: what speaks for it."""

    decision: Decision
    reasons: tuple[str, ...]
    found: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"decision": self.decision.value, "reasons": list(self.reasons), "found": list(self.found)}


class _Findings:
    """Reasons by what they lead to."""

    def __init__(self) -> None:
        self.missing: list[str] = []
        self.against: list[str] = []
        self.open: list[str] = []
        self.good: list[str] = []


def decide(observed: Observed, figures: Figures, criteria: Criteria, settings: GhostSettings) -> Verdict:
    """The verdict. criteria: the gate's tables.

    - *not enough data*: fewer than `minimum_requests` requests were answered by both (by the ghost, where nothing is
      live). Then nothing else is judged.
    - *reject*: what is certain speaks against the ghost, with 95 % confidence: a metric is beyond its `minimum` or
      `maximum`; a metric is worse than the live model's, and it is or may be by more than `maximum_regression`
      (McNemar's exact test for accuracy); recall of a class is lost, over all classes together; it is ahead of always
      answering with the most frequent label in nothing that is asked for; it answers with 5xx more often; or the whole
      interval of its p95 of latency, as a ratio, lies above `maximum_latency_ratio`.
    - *promote*: each of these is certainly within its limit. With fewer than `minimum_labels` known labels, agreement
      stands in for accuracy: models that agree in a share a of the rows cannot differ by more than 1 - a. They also
      have to agree where the live model says what is rare.
    - *hold*: anything else; the reasons say what would settle it.
    """
    findings = _Findings()
    answered = observed.pairs.requests if observed.live else len(observed.alone.ms)
    if answered < settings.minimum_requests:
        by = "by both" if observed.live else "by the ghost"
        findings.missing.append(f"{_requests(answered)} answered {by}; a verdict takes {settings.minimum_requests}")
        return Verdict(Decision.NOT_ENOUGH_DATA, tuple(findings.missing), ())
    _judge_task(observed, figures, criteria, settings, findings)
    _judge_latency(figures, settings, findings)
    _judge_errors(figures, settings, findings)
    _judge_coverage(figures, settings, findings)
    decision = Decision.REJECT if findings.against else Decision.HOLD if findings.open else Decision.PROMOTE
    reasons = findings.against or findings.open or findings.good
    others = [clause for group in (findings.open, findings.good) for clause in group if clause not in reasons]
    return Verdict(decision, tuple(reasons), tuple(others))


def _judge_task(
    observed: Observed, figures: Figures, criteria: Criteria, settings: GhostSettings, findings: _Findings
) -> None:
    task = figures.task
    known = len(task.sample) if task else 0
    if task is None or known < settings.minimum_labels:
        clause = f"{known} rows with a known label; accuracy is judged from {settings.minimum_labels} on"
        if observed.live is None:
            how = f"POST /v1/feedback or {hint('feedback FILE')}"
            findings.open.append(f"nothing live to compare with, and {clause}: {how}")
        else:
            _judge_agreement(figures, criteria, clause, findings)
        return
    if not figures.comparison and figures.accuracy:
        interval = figures.accuracy.interval()
        findings.good.append(
            f"accuracy is {figures.accuracy.value:.4f} on {known:,} rows (95 %: {interval.low:.4f} to "
            f"{interval.high:.4f}); nothing is live to compare with"
        )
    for row in criteria.judged:
        _judge_loss(row.metric, row.maximum_regression or 0.0, task.opponent, findings)
    lost = lost_recall(task.opponent.classes, criteria.recall_margin)
    if lost:
        findings.against.append(recall_lost(lost, "rows"))
    _judge_given_up(task, lost, findings)
    _judge_constant(task, findings)
    for row in criteria.rows:
        _judge_bound(row, task, figures, findings)
    if task.unmeasured:
        findings.good.append(f"not judged, as events do not tell it: {', '.join(task.unmeasured)}")


def _judge_bound(row: Criterion, task: Task, figures: Figures, findings: _Findings) -> None:
    """Hold a metric against its minimum or maximum; of each class only where it is certainly beyond."""
    bound = row.minimum if row.minimum is not None else row.maximum
    if bound is None or row.asks_nothing:
        return
    for name, (low, value, high) in task.metrics.items():
        if name != row.metric and not (row.of_each_class and name.startswith(f"{row.metric}.")):
            continue
        if name == "accuracy" and figures.accuracy:
            low, high = figures.accuracy.interval().low, figures.accuracy.interval().high
        higher = row.facts.higher_is_better
        limit = f"{'below minimum' if higher else 'above maximum'} {bound:g} of [gate.{row.metric}]"
        clause = f"{name} is {apart(value, bound)} on {len(task.sample):,} rows"
        if high < bound if higher else low > bound:
            findings.against.append(f"{clause}, certainly {limit}")
        elif (value < bound if higher else value > bound) and not row.of_each_class:
            findings.open.append(f"{clause} (95 %: {low:.4f} to {high:.4f}), {limit}: more labels would tell")


def _judge_constant(task: Task, findings: _Findings) -> None:
    if task.constant is None:
        return
    if (task.sample.counts > 0).sum() < 2:
        findings.open.append(
            f"every row with a known label is {task.constant.label!r}, which does not tell whether others are found"
        )
    elif task.constant.behind:
        findings.against.append(task.constant.in_words())
    elif not task.constant.beaten:
        findings.open.append(f"{task.constant.in_words()}: more labels would tell")


def _judge_given_up(task: Task, lost: Mapping[str, Comparison], findings: _Findings) -> None:
    """A class that the ghost never finds is told, also if it has too few rows for that to be certain."""
    for label, counted in task.opponent.classes.items():
        if label not in lost and not counted.both + counted.only_model and counted.only_production:
            findings.open.append(
                f"of {label!r} the ghost finds none and the live model {counted.only_production} of "
                f"{counted.examples} rows: more labels would tell"
            )


def _judge_loss(metric: str, margin: float, opponent: Opponent, findings: _Findings) -> None:
    if metric != "accuracy":
        if metric in opponent.changes:
            _judge_change(opponent.changes[metric], margin, findings)
        return
    comparison = opponent.comparison
    if comparison is None:
        return
    difference, interval, p_value = comparison.difference, comparison.score_interval(), comparison.p_value()
    clause = f"accuracy is {_points(difference)} on {comparison.examples:,} rows with a known label"
    test = f"95 %: {_signed(interval.low)} to {_signed(interval.high)}; McNemar's exact test, p = {p_value:.2g}"
    if difference < 0 and p_value < SIGNIFICANCE and (-difference > margin or -interval.low > margin):
        findings.against.append(f"{clause} ({test})")
    elif -interval.low > margin:
        findings.open.append(
            f"{clause}, and may really be {_signed(interval.low)}, more than maximum_regression {margin:g} ({test}): "
            "more labels would tell"
        )
    else:
        findings.good.append(f"{clause} ({test})")


def _judge_change(change: Change, margin: float, findings: _Findings) -> None:
    clause = f"{change.metric} is {change.model:.4f} against {change.other:.4f} of the live model"
    interval = f"95 % of the difference: {_signed(change.low)} to {_signed(change.high)}"
    if change.least_loss > 0 and change.greatest_loss > margin:
        findings.against.append(f"{clause} ({interval})")
    elif change.greatest_loss > margin:
        findings.open.append(
            f"{clause}, and may really be worse by more than maximum_regression {margin:g} ({interval}): more labels "
            "would tell"
        )
    else:
        findings.good.append(f"{clause} ({interval})")


def _judge_agreement(figures: Figures, criteria: Criteria, clause: str, findings: _Findings) -> None:
    agreement, shift = figures.agreement, figures.shift
    if agreement is None:
        if shift and shift.psi > SHIFTED:
            findings.open.append(f"{clause}, and the scores have shifted (PSI {shift.psi:.2g})")
        else:
            findings.open.append(f"{clause}, and the models predict no labels that could be compared")
        return
    lowest = agreement.interval().low
    same = f"both predict the same label for {agreement.value:.2%} of {agreement.total:,} rows"
    agreed = f"{same} (95 %: at least {lowest:.2%})"
    margin = criteria.recall_margin
    apart_there = {
        label: share for label, share in figures.agreement_by_label.items() if share.interval().high < 1 - margin
    }
    others = [row.metric for row in criteria.judged if row.metric != "accuracy"]
    if 1 - lowest > (margin if (limit := criteria.margin("accuracy")) is None else limit):
        findings.open.append(f"{agreed}, which leaves open which of them is right where they differ; {clause}")
    elif apart_there:
        told = [f"for {share.hits} of {share.total} that are {label!r} to it" for label, share in apart_there.items()]
        findings.open.append(f"{agreed}, but not where it matters to the live model: {', '.join(told[:5])}; {clause}")
    elif others and agreement.hits < agreement.total:
        findings.open.append(f"{agreed}, which does not tell {', '.join(others)}; {clause}")
    else:
        findings.good.append(f"{agreed}: their accuracy cannot differ by more than maximum_regression")


def _judge_latency(figures: Figures, settings: GhostSettings, findings: _Findings) -> None:
    latency = figures.latency
    if latency.live is None or latency.ratio is None or latency.interval is None:
        findings.good.append(f"p95 of latency is {latency.ghost['p95']:.3g} ms over {_requests(latency.requests)}")
        return
    ghost, live, limit = latency.ghost["p95"], latency.live["p95"], settings.maximum_latency_ratio
    clause = (
        f"p95 of latency is {ghost:.3g} ms against {live:.3g} ms, {latency.ratio:.2f} times "
        f"(95 %: {latency.interval.low:.2f} to {latency.interval.high:.2f})"
    )
    if ghost - live <= settings.tolerated_latency_ms or latency.interval.high <= limit:
        findings.good.append(clause)
    elif latency.interval.low > limit:
        findings.against.append(f"{clause}, certainly above maximum_latency_ratio {limit:g}")
    else:
        findings.open.append(f"{clause}, perhaps above maximum_latency_ratio {limit:g}")


def _judge_errors(figures: Figures, settings: GhostSettings, findings: _Findings) -> None:
    errors = figures.errors
    live = f" and {errors.live:,} of the live model" if errors.live is not None else ""
    clause = f"{errors.ghost:,} errors (5xx) of the ghost{live} in {_requests(errors.requests)}"
    if errors.excess <= settings.maximum_error_rate:
        findings.good.append(clause)
    elif errors.p_value is not None and errors.p_value >= SIGNIFICANCE:
        findings.open.append(f"{clause}, above maximum_error_rate {settings.maximum_error_rate:g}, which may be chance")
    else:
        findings.against.append(f"{clause}, above maximum_error_rate {settings.maximum_error_rate:g}")


def _judge_coverage(figures: Figures, settings: GhostSettings, findings: _Findings) -> None:
    coverage = figures.coverage
    if coverage is None or coverage.value >= settings.minimum_coverage:
        return
    findings.open.append(
        f"of {coverage.total:,} mirrored requests the ghost's answer is known for {coverage.value:.1%}, less than "
        f"minimum_coverage {settings.minimum_coverage:g}: what is missing may be what is slow or failed"
    )


def _requests(number: int) -> str:
    return f"{number:,} request{'' if number == 1 else 's'}"


def _points(difference: float) -> str:
    if difference == 0:
        return "the same"
    return f"{abs(difference):.4f} {'higher' if difference > 0 else 'lower'}"


def _signed(difference: float) -> str:
    return f"{difference:+.4f}"
