"""Clauses about metrics, whatever the target, for the gate and for the verdict on a ghost."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from mlplatform.contract.comparison import Change


@dataclass
class Clauses:
    """What a ghost's figures say: against it with certainty, left open, or for it. Clauses without a full stop."""

    against: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    good: list[str] = field(default_factory=list)

    def add(self, target: str, others: "Clauses") -> None:
        """Add those about one of several targets."""
        for mine, theirs in ((self.against, others.against), (self.open, others.open), (self.good, others.good)):
            mine += [f"{target}: {clause}" for clause in theirs]


def apart(value: float, threshold: float) -> str:
    """A figure with four decimals, or as many as tell it from its threshold."""
    digits = next((n for n in range(4, 17) if float(f"{value:.{n}f}") != threshold), 17)
    return f"{value:.{digits}f}"


def signed(difference: float) -> str:
    """A difference with its sign."""
    return f"{difference:+.4f}"


def lost(change: Change, margin: float, production: str, examples: int) -> Iterator[str]:
    """Why the gate is closed by a metric that is worse than production's, if it is."""
    # Rounded, so that a loss of exactly the margin is one.
    loss = round(change.loss, 12)
    if loss <= 0:
        return
    less = (
        f"{change.metric} is {apart(loss, margin)} {'lower' if change.higher_is_better else 'higher'} than that "
        f"of {production} in production on the same {examples} test examples"
    )
    if loss > margin:
        yield f"{less}, more than maximum_regression {margin:g}"
    elif change.least_loss > 0 and change.greatest_loss > margin:
        yield (
            f"{less}, which is no chance (95 %) and may really be {apart(change.greatest_loss, margin)}, more than "
            f"maximum_regression {margin:g}"
        )


def judge_change(change: Change, margin: float, clauses: Clauses) -> None:
    """A metric of a ghost beside the live model's."""
    clause = f"{change.metric} is {change.model:.4f} against {change.other:.4f} of the live model"
    interval = f"95 % of the difference: {signed(change.low)} to {signed(change.high)}"
    if change.least_loss > 0 and change.greatest_loss > margin:
        clauses.against.append(f"{clause} ({interval})")
    elif change.greatest_loss > margin:
        clauses.open.append(
            f"{clause}, and may really be worse by more than maximum_regression {margin:g} ({interval}): more labels "
            "would tell"
        )
    else:
        clauses.good.append(f"{clause} ({interval})")
