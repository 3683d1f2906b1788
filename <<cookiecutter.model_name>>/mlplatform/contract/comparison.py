"""Proportions with their confidence intervals, and two models compared example by example."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
SIGNIFICANCE = 0.05
COUNTS = ("both", "only_model", "only_production", "neither")


@dataclass(frozen=True)
class Interval:
    """The bounds between which a figure lies with 95 % confidence."""

    low: float
    high: float


def proportion_interval(hits: int, total: int) -> Interval:
    """Wilson's interval of a proportion: Wilson (1927), J. Am. Stat. Assoc. 22, 209. It holds also near 0 and 1."""
    # Imported where it is used: it takes a second, and training has not started when this module is read.
    from scipy.stats import binomtest

    interval = binomtest(hits, total).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(float(interval.low), float(interval.high))


@dataclass(frozen=True)
class Share:
    """So many of so many, with Wilson's interval."""

    hits: int
    total: int

    @property
    def value(self) -> float:
        """The share."""
        return self.hits / self.total

    def interval(self) -> Interval:
        """With 95 % confidence."""
        return proportion_interval(self.hits, self.total)

    def to_json(self) -> dict[str, Any]:
        """All figures as JSON values."""
        return {**asdict(self), "value": self.value, "interval": asdict(self.interval())}


@dataclass(frozen=True)
class Change:
    """A metric of a model and of another one on the same examples.

    low, high: the difference, model - other, with 95 % confidence.
    """

    metric: str
    model: float
    other: float
    low: float
    high: float
    higher_is_better: bool

    @property
    def loss(self) -> float:
        """By how much the model is worse; below 0 if it is better."""
        difference = self.model - self.other
        return -difference if self.higher_is_better else difference

    @property
    def least_loss(self) -> float:
        """The loss at the better end of the interval: above 0 it is certain."""
        return -self.high if self.higher_is_better else self.low

    @property
    def greatest_loss(self) -> float:
        """The loss at the worse end of the interval."""
        return -self.low if self.higher_is_better else self.high

    def to_json(self) -> dict[str, Any]:
        """All figures as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Comparison:
    """A model and the one in production on the same examples, counted example by example.

    `both`, `only_model`, `only_production`, `neither`: how many examples are predicted right by whom.
    """

    production: str
    both: int
    only_model: int
    only_production: int
    neither: int

    @classmethod
    def of(cls, production: str, right: NDArray[np.bool_], other_right: NDArray[np.bool_]) -> "Comparison":
        """Counted from whether the model and the one in production are right, both (examples,)."""
        return cls(
            production,
            both=int((right & other_right).sum()),
            only_model=int((right & ~other_right).sum()),
            only_production=int((~right & other_right).sum()),
            neither=int((~right & ~other_right).sum()),
        )

    @classmethod
    def counted(cls, production: str, counts: Mapping[str, Any]) -> "Comparison":
        """From the four counts by name."""
        return cls(production, *(int(counts[name]) for name in COUNTS))

    @property
    def counts(self) -> dict[str, int]:
        """The four counts by name."""
        return {name: getattr(self, name) for name in COUNTS}

    @property
    def accuracies(self) -> tuple[float, float]:
        """Of the model, and of the one in production."""
        return (self.both + self.only_model) / self.examples, (self.both + self.only_production) / self.examples

    @property
    def examples(self) -> int:
        """All examples."""
        return self.both + self.only_model + self.only_production + self.neither

    @property
    def difference(self) -> float:
        """Accuracy of the model minus that of production; divided once, so that 1 of 100 is exactly 0.01."""
        return (self.only_model - self.only_production) / self.examples

    @property
    def discordant(self) -> int:
        """Examples that one of the two gets right and the other wrong: only they tell the models apart."""
        return self.only_model + self.only_production

    def p_value(self) -> float:
        """McNemar's exact test, two-sided: how probable so uneven a division of the discordant examples, or a more
        uneven one, is if both models are equally good. McNemar (1947), Psychometrika 12, 153.
        """
        if not self.discordant:
            return 1.0
        # Imported where it is used: it takes a second, and training has not started when this module is read.
        from scipy.stats import binomtest

        return float(binomtest(self.only_model, self.discordant).pvalue)

    def interval(self) -> Interval:
        """The difference with 95 % confidence, given how many examples are discordant.

        The model's share of the discordant examples has Clopper and Pearson's exact interval (1934, Biometrika 26,
        404); a share s of d discordant of n examples is a difference of d (2 s - 1) / n. It excludes 0 exactly when
        McNemar's exact test is significant at 5 %.
        """
        if not self.discordant:
            return Interval(0.0, 0.0)
        from scipy.stats import binomtest

        share = binomtest(self.only_model, self.discordant).proportion_ci(CONFIDENCE, method="exact")
        low, high = (self.discordant * (2 * float(bound) - 1) / self.examples for bound in (share.low, share.high))
        return Interval(low, high)

    def score_interval(self, confidence: float = CONFIDENCE) -> Interval:
        """The difference with this confidence, whatever the number of discordant examples might have been.

        Tango's score interval (1998, Statistics in Medicine 17, 891). Unlike `interval` it does not vanish where no
        example happens to be discordant: of n examples that agree it is 0 within 3.84 / (n + 3.84).
        """
        from scipy.optimize import brentq
        from scipy.stats import norm

        n, b, c = self.examples, self.only_model, self.only_production
        limit = float(norm.ppf((1 + confidence) / 2))

        def score(delta: float) -> float:
            # The likelihood's maximum for the share of examples that only production gets right, given the difference.
            linear, constant = (2 * n - b + c) * delta - b - c, -c * delta * (1 - delta)
            share = ((linear**2 - 8 * n * constant) ** 0.5 - linear) / (4 * n)
            variance = n * (2 * share + delta * (1 - delta))
            return float((b - c - n * delta) / variance**0.5) if variance > 0 else 0.0

        def bound(sign: int) -> float:
            inner, outer = self.difference + sign * 1e-9, sign * (1 - 1e-9)
            if sign * outer <= sign * inner or abs(score(outer)) < limit:
                return float(sign)
            return float(brentq(lambda delta: abs(score(delta)) - limit, inner, outer))

        return Interval(bound(-1), bound(1))

    def to_json(self) -> dict[str, Any]:
        """All figures as JSON values."""
        return {
            **asdict(self),
            "examples": self.examples,
            "difference": self.difference,
            "interval": asdict(self.interval()),
            "p_value": self.p_value(),
        }


@dataclass(frozen=True)
class Paired:
    """A model and the one in production on the same examples, by how far each is from the truth.

    closer, farther: examples that the model, or production, comes closer to. p_value: Wilcoxon's signed-rank test of
    the differences of the absolute errors, two-sided. Wilcoxon (1945), Biometrics Bulletin 1, 80.
    """

    production: str
    examples: int
    closer: int
    farther: int
    p_value: float

    @classmethod
    def of(cls, production: str, errors: NDArray[np.float64], other_errors: NDArray[np.float64]) -> "Paired":
        """From the absolute errors of the model and of the one in production, both (examples,)."""
        differences = errors - other_errors
        p_value = 1.0
        if differences.any():
            from scipy.stats import wilcoxon

            p_value = float(wilcoxon(differences).pvalue)
        return cls(production, len(errors), int((differences < 0).sum()), int((differences > 0).sum()), p_value)

    def to_json(self) -> dict[str, Any]:
        """All figures as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Paired":
        """See `to_json`. Raises KeyError or TypeError."""
        return cls(**value)


@dataclass(frozen=True)
class Opponent:
    """What the model is compared with.

    `comparison`: both models on the same examples, `changes` by metric, and `classes`, by label, those of one class.
    Without one, `skipped` says why there is nothing to compare with, which leaves the gate open, or `unusable` why a
    comparison that is due cannot be made, which closes it. targets: of several by name what each is compared with.
    """

    comparison: Comparison | Paired | None = None
    changes: Mapping[str, Change] = field(default_factory=dict)
    classes: Mapping[str, Comparison] = field(default_factory=dict)
    skipped: str = ""
    unusable: str = ""
    targets: Mapping[str, "Opponent"] = field(default_factory=dict)

    @property
    def compared(self) -> Comparison | Paired | None:
        """The comparison, of several targets that of the first that has one."""
        return self.comparison or next((of.comparison for of in self.targets.values() if of.comparison), None)

    @property
    def changed(self) -> set[str]:
        """The metrics that there are changes of, of several targets behind their names."""
        of_targets = {f"{name}.{metric}" for name, of in self.targets.items() for metric in of.changes}
        return {*self.changes, *of_targets}

    def of(self, target: str) -> "Opponent":
        """What one of several targets is compared with."""
        return self.targets.get(target, Opponent())

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads, and `skipped`."""
        comparison = self.comparison
        return {
            "comparison": comparison.to_json() if comparison else None,
            "changes": {name: change.to_json() for name, change in self.changes.items()},
            "recall": {label: counted.counts for label, counted in self.classes.items()},
            "skipped": self.skipped or None,
            **({"targets": {name: of.to_json() for name, of in self.targets.items()}} if self.targets else {}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Opponent":
        """The comparison in a verdict; one that was written before there were tables has that of accuracy alone."""
        if value.get("targets"):
            return cls(targets={name: cls.from_json(of) for name, of in value["targets"].items() if of["comparison"]})
        counts = value["comparison"]
        production = counts["production"]
        return cls(
            Comparison.counted(production, counts) if "both" in counts else Paired.from_json(counts),
            {name: Change(**change) for name, change in value.get("changes", {}).items()},
            {label: Comparison.counted(production, of_class) for label, of_class in value.get("recall", {}).items()},
        )


@dataclass(frozen=True)
class Constant:
    """The model against always answering the same, on the same examples.

    label: that answer. comparison: who is right, with the label as `production`; None if accuracy is not asked for.
    changes: of the other metrics that are asked for. targets: of several by name; then there is nothing else.
    """

    label: str
    comparison: Comparison | None
    changes: tuple[Change, ...] = ()
    targets: Mapping[str, "Constant"] = field(default_factory=dict)

    @property
    def beaten(self) -> bool:
        """Whether the model is better in at least one of them, with 95 % confidence; of several targets in each."""
        if self.targets:
            return all(of.beaten for of in self.targets.values())
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
            **({"targets": {name: of.to_json() for name, of in self.targets.items()}} if self.targets else {}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Constant":
        """See `to_json`. Raises KeyError or TypeError."""
        counts = value["comparison"]
        return cls(
            value["label"],
            Comparison.counted(value["label"], counts) if counts else None,
            tuple(Change(**change) for change in value["changes"]),
            {name: cls.from_json(of) for name, of in value.get("targets", {}).items()},
        )
