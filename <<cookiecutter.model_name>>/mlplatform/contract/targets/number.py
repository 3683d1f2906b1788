"""Number: a value, such as a price or a temperature."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.config.settings import SettingsError
from mlplatform.contract.comparison import Constant, Interval, Opponent, Paired
from mlplatform.contract.criteria import Criteria, Criterion
from mlplatform.contract.drift import histogram
from mlplatform.contract.resampling import changes, described, intervals
from mlplatform.contract.targets.base import Agreement, Answers, Array, Floats, Objects, Target
from mlplatform.contract.targets.clauses import Clauses
from mlplatform.contract.targets.figures import none_if_nan
from mlplatform.contract.targets.number_measures import METRICS, Numbers, by_truth, numbers

# Keras's losses whose name has one of these are for labels, or for directions.
OTHER_LOSSES = ("entropy", "hinge", "kldivergence", "kullback", "cosine", "dice", "tversky", "ctc", "circle")
# The metrics that a median is the best constant for; for the others it is the mean.
OF_THE_MEDIAN = ("mean_absolute_error", "median_absolute_error")
# A value's difference is measured by how far values are spread, but by no less than this share of their size.
LEAST_SPREAD = 1e-3


@dataclass(frozen=True)
class Number(Target):
    """One value; the model's output is named like the target. unit: for people, such as EUR or °C."""

    unit: str = ""

    kind = "number"
    default = Criterion("r2_score", minimum=0.0, maximum_regression=0.02)
    loss = "mean_squared_error"
    truths = "numbers"
    noun = "value"
    headline = "mean_absolute_error"
    metric = "mean_absolute_error"
    predictions = "values"
    one = "a value, measured by their spread,"
    invalid = "no numbers: not finite"

    @property
    def output(self) -> str:
        """See the base."""
        return self.name

    @property
    def row_shape(self) -> tuple[int, ...]:
        """One value."""
        return ()

    def check(self) -> None:
        """See the base."""
        if not isinstance(self.name, str) or not self.name.isidentifier() or not isinstance(self.unit, str):
            raise SettingsError(f"model.TARGETS: {self!r} needs a name that is a property of model.RECORD, and a text")
        if self.name == "id":
            raise SettingsError("model.TARGETS: no target can be called 'id', which names an example; rename it")

    def to_json(self) -> dict[str, Any]:
        """See the base."""
        return {**super().to_json(), "unit": self.unit}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Number":
        """See the base."""
        return cls(value["name"], value["unit"])

    def in_words(self, metrics: Mapping[str, Any]) -> str:
        """See the base."""
        return f"mean absolute error {self.with_unit(metrics['mean_absolute_error'])}"

    def said(self, metrics: Mapping[str, Any]) -> str:
        """See the base."""
        interval = metrics["intervals"]["mean_absolute_error"]
        return (
            f"{self.in_words(metrics)}, between {interval['low']:.4g} and {interval['high']:.4g} with 95 % confidence"
        )

    def with_unit(self, value: float | None) -> str:
        """A value for people."""
        return "none" if value is None else f"{value:.4g}{' ' if self.unit else ''}{self.unit}"

    # The truth.

    def text(self, value: object) -> str:
        """See the base."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError("is no number")
        if not _fits(value):
            raise ValueError("is no number that a float32 can hold")
        return repr(value)

    def encode(self, texts: Sequence[bytes], record: Mapping[str, Any]) -> tuple[Array, NDArray[np.bool_]]:
        """Values (n,), float32; all of them are valid, as `text` lets no other pass."""
        values = np.array([float(text) for text in texts], np.float32)
        return values, np.isfinite(values)

    def identity(self) -> Any:
        """See the base: the unit is for people."""
        return {"kind": self.kind, "name": self.name}

    def described(self, truth: Array) -> dict[str, Any]:
        """`values`: minimum, mean, median, maximum and deviation, and how many are in each of twenty equal bins."""
        if not len(truth):
            return {"values": {}}
        wide = truth.astype(np.float64)
        counts, edges = np.histogram(wide, 20)
        figures = {"minimum": wide.min(), "mean": wide.mean(), "median": np.median(wide), "maximum": wide.max()}
        return {
            "values": {
                **{name: float(value) for name, value in figures.items()},
                "deviation": float(wide.std()),
                "edges": edges.tolist(),
                "counts": counts.tolist(),
            }
        }

    def decode(self, truth: Any) -> float:
        """See the base; as short as a float32 can be written."""
        return float(str(np.float32(np.asarray(truth).reshape(()))))

    def feedback(self, value: object) -> float:
        """See the base."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not _fits(value):
            raise ValueError(f"expected a number, the true {self.name}")
        return float(value)

    def known(self, value: object) -> float | None:
        """See the base. A file of labels holds text."""
        try:
            return self.feedback(float(value) if isinstance(value, str) else value)
        except ValueError:
            return None

    # The network.

    def output_fault(self, shape: tuple[int | None, ...] | None) -> str:
        """See the base."""
        return "" if shape in ((None, 1), (None,)) else f"one value for target {self.name!r}, (None, 1)"

    def fits_loss(self, name: str) -> bool:
        """See the base."""
        plain = name.lower().replace("_", "")
        return not any(other in plain for other in OTHER_LOSSES)

    def prediction_fault(self, served: NDArray[np.float32]) -> str:
        """See the base."""
        if np.isfinite(served).all():
            return ""
        return "a prediction is not finite after one step; lower the learning rate, or scale inputs and target"

    def difference(self, found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
        """The largest difference, by the standard deviation of what is expected."""
        wide = expected.astype(np.float64)
        scale = max(float(wide.std()), LEAST_SPREAD * float(np.sqrt(np.square(wide).mean())))
        return float(np.abs(found.astype(np.float64) - wide).max()) / (scale or 1.0)

    def agreeing(self, found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
        """See the base: what counts is how far they differ."""
        return 1.0

    # Rows whose truth is known.

    def rows(self, truth: Array, predictions: NDArray[np.float32]) -> Numbers:
        """See the base."""
        return numbers(truth, predictions)

    def metrics(self, rows: Numbers) -> dict[str, Any]:
        """Each of number_measures.METRICS, and `intervals` of them (95 %); `bias`: the mean of predicted - true;
        `by_truth`: by up to five ranges of the true values that hold equally many rows, `from`, `to`, `examples`,
        `mean_absolute_error` and `bias`.
        """
        values = {name: none_if_nan(value) for name, value in rows.values(METRICS).items()}
        valid = rows.at(rows.valid)
        return {
            "examples": len(rows),
            "invalid": len(rows) - len(valid),
            **values,
            "intervals": described(rows, METRICS),
            "bias": float(valid.residuals.mean()) if len(valid) else None,
            "by_truth": by_truth(valid),
        }

    # The gate.

    def compare(self, production: str, model: Numbers, other: Numbers, criteria: Criteria) -> Opponent:
        """By the difference of each metric, and row by row by the absolute errors, where both have a prediction."""
        both = model.valid & other.valid
        if not both.any():
            return Opponent(unusable=f"there is no row for which this model and {production} both predict a number")
        model, other = model.at(both), other.at(both)
        names = dict.fromkeys([self.headline, *(row.metric for row in criteria.judged)])
        return Opponent(Paired.of(production, model.errors, other.errors), changes(model, other, names))

    def against_constant(self, model: Numbers, criteria: Criteria, learned: Array | None = None) -> Constant | None:
        """Beside the median for absolute errors, the mean for squared ones: of the train split, else of these rows."""
        if criteria.asks_nothing or not model.valid.any():
            return None
        values = model.true if learned is None else learned.astype(np.float64)
        names = list(dict.fromkeys(row.metric for row in criteria.rows if not row.asks_nothing))
        by_median = [name for name in names if name in OF_THE_MEDIAN]
        by_mean = [name for name in names if name not in OF_THE_MEDIAN]
        median, mean = float(np.median(values)), float(values.mean())
        told = [f"the median {median:.4g}"] * bool(by_median) + [f"the mean {mean:.4g}"] * bool(by_mean)
        found = {
            **changes(model, model.constant(median), by_median),
            **changes(model, model.constant(mean), by_mean),
        }
        return Constant(" or ".join(told), None, tuple(found.values()))

    def why_other(self, there: Target) -> str:
        """See the base; in another unit the same value is another one."""
        unit = there.unit if isinstance(there, Number) else ""
        return "" if unit == self.unit else f"it predicts in {unit or 'no unit'}, and this one in {self.unit or 'none'}"

    def unlike(self, live: Target) -> str:
        """See the base; or another unit."""
        return super().unlike(live) or self.why_other(live)

    # Serving.

    def noted(self, output: Array) -> tuple[None, Array]:
        """The value."""
        return None, output.reshape(-1)

    def signals(self, output: Array) -> dict[str, Array]:
        """`values`: those that are finite."""
        flat = output.reshape(-1)
        return {"values": flat[np.isfinite(flat)]}

    def edges(self, baseline: Mapping[str, Any]) -> dict[str, tuple[Array | None, Sequence[float]]]:
        """See the base."""
        values = baseline["values"]
        return {"values": (np.asarray(values["edges"]), values["shares"])}

    def baseline(self, predictions: NDArray[np.float32]) -> dict[str, Any]:
        """`values`: a histogram, by quantiles."""
        return {"values": histogram(predictions)}

    # Ghosts.

    def observed(self, truth: Objects, answers: Sequence[Answers]) -> list[Numbers]:
        """See the base."""
        true = truth.astype(np.float64)
        return [Numbers(true, said.scores) for said in answers]

    def agreement(self, live: Answers, ghost: Answers, truth: Objects) -> "Closeness | None":
        """See the base."""
        both = self.comparable(live) & self.comparable(ghost)
        return Closeness.of(ghost.scores[both] - live.scores[both]) if both.any() else None

    def all_the_same(self, rows: Numbers) -> str:
        """See the base."""
        return f"{rows.true[0]:g}" if len(rows) and (rows.true == rows.true[0]).all() else ""


@dataclass(frozen=True)
class Closeness(Agreement):
    """How far two models' values for the same rows are apart.

    mean: of the absolute difference, with its interval; root_mean_square: likewise; bias: the mean of ghost - live.
    """

    rows: int
    mean: float
    mean_interval: Interval
    root_mean_square: float
    root_mean_square_interval: Interval
    bias: float

    @classmethod
    def of(cls, differences: Floats) -> "Closeness":
        """Of ghost - live (rows,), at least one. The intervals are the bootstrap's, as of any metric."""
        rows = Numbers(np.zeros(len(differences)), differences)
        names = ("mean_absolute_error", "root_mean_squared_error")
        found = intervals(rows, names)
        (low, mean, high), (least, square, most) = (found[name] for name in names)
        bias = float(differences.mean())
        return cls(len(differences), mean, Interval(low, high), square, Interval(least, most), bias)

    def to_json(self) -> dict[str, Any]:
        """See the base."""
        return {"agreement": None, "closeness": asdict(self)}

    def in_words(self) -> str:
        """See the base."""
        return f"mean difference {self.mean:.4g}"

    def judge(self, criteria: Criteria, clause: str, clauses: Clauses) -> None:
        """Errors cannot differ by more than the values do: the triangle inequality, of means and root mean squares."""
        text = f"their values differ by {self.mean:.4g} in the mean over {self.rows:,} rows (95 %: at most "
        text += f"{self.mean_interval.high:.4g})"
        most = {
            "mean_absolute_error": self.mean_interval.high,
            "root_mean_squared_error": self.root_mean_square_interval.high,
        }
        beyond = [
            row.metric
            for row in criteria.judged
            if self.mean > 0 and most.get(row.metric, float("inf")) > (row.maximum_regression or 0.0)
        ]
        if beyond:
            clauses.open.append(f"{text}, which leaves open which of them is nearer by {', '.join(beyond)}; {clause}")
        else:
            clauses.good.append(f"{text}: no metric can differ by more than its maximum_regression")


def _fits(value: float) -> bool:
    """Whether a float32 can hold it."""
    try:
        return abs(value) <= float(np.finfo(np.float32).max)
    except OverflowError:
        return False
