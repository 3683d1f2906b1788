"""What follows from the figures: promote, hold, reject, or that it is too early to say."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mlplatform.config.hints import hint
from mlplatform.contract.comparison import SIGNIFICANCE
from mlplatform.contract.drift import SHIFTED
from mlplatform.ghost.observed import Observed
from mlplatform.ghost.settings import GhostSettings
from mlplatform.ghost.statistics import Figures


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


def decide(observed: Observed, figures: Figures, settings: GhostSettings) -> Verdict:
    """The verdict.

    - *not enough data*: fewer than `minimum_requests` requests were answered by both (by the ghost, where nothing is
      live). Then nothing else is judged.
    - *reject*: what is certain speaks against the ghost: it is less accurate, by McNemar's exact test at 5 % and by
      more than `maximum_regression` at the lower end of the interval or in the figure itself; it answers with 5xx more
      often, likewise; or the whole interval of its p95 of latency, as a ratio, lies above `maximum_latency_ratio`.
    - *promote*: each of these is certainly within its limit. Accuracy: the interval of the difference does not reach
      beyond `maximum_regression`. With fewer than `minimum_labels` known labels, agreement stands in: models that agree
      in a share a of the rows cannot differ in accuracy by more than 1 - a.
    - *hold*: anything else; the reasons say what would settle it.
    """
    findings = _Findings()
    answered = observed.pairs.requests if observed.live else len(observed.alone.ms)
    if answered < settings.minimum_requests:
        by = "by both" if observed.live else "by the ghost"
        findings.missing.append(f"{_requests(answered)} answered {by}; a verdict takes {settings.minimum_requests}")
        return Verdict(Decision.NOT_ENOUGH_DATA, tuple(findings.missing), ())
    _judge_accuracy(observed, figures, settings, findings)
    _judge_latency(figures, settings, findings)
    _judge_errors(figures, settings, findings)
    _judge_coverage(figures, settings, findings)
    decision = Decision.REJECT if findings.against else Decision.HOLD if findings.open else Decision.PROMOTE
    reasons = findings.against or findings.open or findings.good
    others = [clause for group in (findings.open, findings.good) for clause in group if clause not in reasons]
    return Verdict(decision, tuple(reasons), tuple(others))


def _judge_accuracy(observed: Observed, figures: Figures, settings: GhostSettings, findings: _Findings) -> None:
    accuracy, comparison = figures.accuracy, figures.comparison
    lowest = settings.reject_below_accuracy
    if accuracy and accuracy.total >= settings.minimum_labels and accuracy.interval().high < lowest:
        findings.against.append(
            f"accuracy is {accuracy.value:.4f} on {accuracy.total:,} rows, certainly below reject_below_accuracy "
            f"{lowest:g}"
        )
        return
    if observed.live is None:
        _judge_first(figures, settings, findings)
        return
    if comparison is None or comparison.examples < settings.minimum_labels:
        _judge_agreement(figures, settings, findings, comparison.examples if comparison else 0)
        return
    difference, interval, p_value = comparison.difference, comparison.score_interval(), comparison.p_value()
    margin, certain = settings.maximum_regression, p_value < SIGNIFICANCE
    clause = f"accuracy is {_points(difference)} on {comparison.examples:,} rows with a known label"
    test = f"95 %: {_signed(interval.low)} to {_signed(interval.high)}; McNemar's exact test, p = {p_value:.2g}"
    if difference < 0 and certain and (-difference > margin or -interval.low > margin):
        findings.against.append(f"{clause} ({test})")
    elif -interval.low > margin:
        findings.open.append(
            f"{clause}, and may really be {_signed(interval.low)}, more than maximum_regression {margin:g} ({test}): "
            "more labels would tell"
        )
    else:
        findings.good.append(f"{clause} ({test})")


def _judge_first(figures: Figures, settings: GhostSettings, findings: _Findings) -> None:
    """Where nothing is live, the ghost is judged by its own accuracy."""
    accuracy = figures.accuracy
    known = accuracy.total if accuracy else 0
    if accuracy is None or known < settings.minimum_labels:
        findings.open.append(
            f"nothing live to compare with, and {known} rows with a known label; accuracy is judged from "
            f"{settings.minimum_labels} on: POST /v1/feedback or {hint('feedback FILE')}"
        )
    else:
        findings.good.append(
            f"accuracy is {accuracy.value:.4f} on {known:,} rows (95 %: {accuracy.interval().low:.4f} to "
            f"{accuracy.interval().high:.4f}); nothing is live to compare with"
        )


def _judge_agreement(figures: Figures, settings: GhostSettings, findings: _Findings, known: int) -> None:
    clause = f"{known} rows with a known label; accuracy is judged from {settings.minimum_labels} on"
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
    if 1 - lowest <= settings.maximum_regression:
        findings.good.append(f"{agreed}: their accuracy cannot differ by more than maximum_regression")
    else:
        findings.open.append(f"{agreed}, which leaves open which of them is right where they differ; {clause}")


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
