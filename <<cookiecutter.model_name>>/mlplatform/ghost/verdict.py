"""What follows from the figures: promote, hold, reject, or that it is too early to say."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mlplatform.config.hints import hint
from mlplatform.contract.comparison import SIGNIFICANCE
from mlplatform.contract.criteria import Criteria, Criterion
from mlplatform.contract.drift import SHIFTED
from mlplatform.contract.targets.clauses import Clauses, apart
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

    Several targets are each judged so; what speaks against one of them, or leaves it open, holds for the ghost.
    """
    findings = Clauses()
    answered = observed.pairs.requests if observed.live else len(observed.alone.ms)
    if answered < settings.minimum_requests:
        by = "by both" if observed.live else "by the ghost"
        missing = f"{_requests(answered)} answered {by}; a verdict takes {settings.minimum_requests}"
        return Verdict(Decision.NOT_ENOUGH_DATA, (missing,), ())
    for name, of in observed.of_targets.items():
        own = Clauses()
        _judge_task(of, figures.targets[name], criteria.of(name), settings, own)
        findings.add(name, own)
    if not observed.of_targets:
        _judge_task(observed, figures, criteria, settings, findings)
    _judge_latency(figures, settings, findings)
    _judge_errors(figures, settings, findings)
    _judge_coverage(figures, settings, findings)
    decision = Decision.REJECT if findings.against else Decision.HOLD if findings.open else Decision.PROMOTE
    reasons = findings.against or findings.open or findings.good
    others = [clause for group in (findings.open, findings.good) for clause in group if clause not in reasons]
    return Verdict(decision, tuple(reasons), tuple(others))


def _judge_task(
    observed: Observed, figures: Figures, criteria: Criteria, settings: GhostSettings, findings: Clauses
) -> None:
    task = figures.task
    known = len(task.rows) if task else 0
    target = observed.target
    if observed.unlike:
        findings.open.append(f"the live model is of another kind: {observed.unlike}, so what both say is not compared")
    if task is None or known < settings.minimum_labels:
        clause = f"{known} rows with a known label; {target.headline} is judged from {settings.minimum_labels} on"
        if observed.live is None or observed.unlike:
            how = f"POST /v1/feedback or {hint('feedback FILE')}"
            findings.open.append(f"nothing live to compare with, and {clause}: {how}")
        else:
            _judge_agreement(figures, criteria, clause, findings)
        return
    if not figures.comparison:
        found = target.intervals(task.rows, [target.headline])
        beside = "the live model is not compared with" if observed.unlike else "nothing is live to compare with"
        findings.good += [
            f"{name} is {value:.4f} on {known:,} rows (95 %: {low:.4f} to {high:.4f}); {beside}"
            for name, (low, value, high) in found.items()
        ]
    target.judge(task.opponent, criteria, findings)
    _judge_constant(task, findings)
    for row in criteria.rows:
        _judge_bound(row, task, findings)
    if task.unmeasured:
        findings.good.append(f"not judged, as events do not tell it: {', '.join(task.unmeasured)}")


def _judge_bound(row: Criterion, task: Task, findings: Clauses) -> None:
    """Hold a metric against its minimum or maximum; of each class only where it is certainly beyond."""
    bound = row.minimum if row.minimum is not None else row.maximum
    if bound is None or row.asks_nothing:
        return
    for name, (low, value, high) in task.metrics.items():
        if name != row.metric and not (row.of_each_class and name.startswith(f"{row.metric}.")):
            continue
        higher = row.facts.higher_is_better
        limit = f"{'below minimum' if higher else 'above maximum'} {bound:g} of [{row.table}]"
        clause = f"{name} is {apart(value, bound)} on {len(task.rows):,} rows"
        if high < bound if higher else low > bound:
            findings.against.append(f"{clause}, certainly {limit}")
        elif (value < bound if higher else value > bound) and not row.of_each_class:
            findings.open.append(f"{clause} (95 %: {low:.4f} to {high:.4f}), {limit}: more labels would tell")


def _judge_constant(task: Task, findings: Clauses) -> None:
    if task.constant is None:
        return
    same = task.target.all_the_same(task.rows)
    if same:
        findings.open.append(f"every row with a known label is {same!r}, which does not tell whether others are found")
    elif task.constant.behind:
        findings.against.append(task.constant.in_words())
    elif not task.constant.beaten:
        findings.open.append(f"{task.constant.in_words()}: more labels would tell")


def _judge_agreement(figures: Figures, criteria: Criteria, clause: str, findings: Clauses) -> None:
    shift = figures.shift
    if figures.agreement is not None:
        figures.agreement.judge(criteria, clause, findings)
    elif shift and shift.psi > SHIFTED:
        findings.open.append(f"{clause}, and the scores have shifted (PSI {shift.psi:.2g})")
    else:
        findings.open.append(f"{clause}, and the models predict nothing that could be compared")


def _judge_latency(figures: Figures, settings: GhostSettings, findings: Clauses) -> None:
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


def _judge_errors(figures: Figures, settings: GhostSettings, findings: Clauses) -> None:
    errors = figures.errors
    live = f" and {errors.live:,} of the live model" if errors.live is not None else ""
    clause = f"{errors.ghost:,} errors (5xx) of the ghost{live} in {_requests(errors.requests)}"
    if errors.excess <= settings.maximum_error_rate:
        findings.good.append(clause)
    elif errors.p_value is not None and errors.p_value >= SIGNIFICANCE:
        findings.open.append(f"{clause}, above maximum_error_rate {settings.maximum_error_rate:g}, which may be chance")
    else:
        findings.against.append(f"{clause}, above maximum_error_rate {settings.maximum_error_rate:g}")


def _judge_coverage(figures: Figures, settings: GhostSettings, findings: Clauses) -> None:
    coverage = figures.coverage
    if coverage is None or coverage.value >= settings.minimum_coverage:
        return
    findings.open.append(
        f"of {coverage.total:,} mirrored requests the ghost's answer is known for {coverage.value:.1%}, less than "
        f"minimum_coverage {settings.minimum_coverage:g}: what is missing may be what is slow or failed"
    )


def _requests(number: int) -> str:
    return f"{number:,} request{'' if number == 1 else 's'}"
