"""What a model learns: the interface through which everything else knows a target. Each kind is a file beside this one.

A target is named like the record's property that holds its truth. It owns what depends on the task: how a truth is
read and stored, what a network has to give, the metrics, the comparison of two models, what an event notes of a row,
how far predictions have drifted, and what speaks for and against a ghost. Serving and delivery use it as well, so it
imports no TensorFlow, no scikit-learn, and SciPy only where it is used.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlplatform.config.settings import SettingsError
from mlplatform.contract.comparison import Constant, Opponent, Share
from mlplatform.contract.criteria import Criteria, Criterion
from mlplatform.contract.metrics import METRICS
from mlplatform.contract.resampling import Rows, intervals
from mlplatform.contract.targets.clauses import Clauses, judge_change, lost

Array = NDArray[Any]
Floats = NDArray[np.float64]
Objects = NDArray[np.object_]


@dataclass(frozen=True)
class Answers:
    """What events note of the rows that a model predicted: per row a label (None without one) and a score."""

    labels: Objects
    scores: Floats

    def at(self, rows: NDArray[np.bool_]) -> "Answers":
        """Some of the rows."""
        return Answers(self.labels[rows], self.scores[rows])


class Agreement(ABC):
    """How far two models say the same to the same rows, whatever is true."""

    disagreements: Sequence[Any] = ()
    """Of labels what both say where they differ, the most frequent first."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """All figures as JSON values."""

    @abstractmethod
    def judge(self, criteria: Criteria, clause: str, clauses: Clauses) -> None:
        """What follows where too few truths are known, which `clause` says."""

    @abstractmethod
    def in_words(self) -> str:
        """In a few words, for a line."""


@dataclass(frozen=True)
class Target(ABC):
    """One target. name: the record's property that holds the truth."""

    name: str

    kind: ClassVar[str]
    default: ClassVar[Criterion]
    """What the gate asks for without any table."""
    loss: ClassVar[str]
    """A loss of Keras for it."""
    truths: ClassVar[str]
    """What a loss takes as true, in the plural."""
    noun: ClassVar[str] = "score"
    """What the scores of events are."""
    labels_agree: ClassVar[bool] = False
    """Whether two models say the same or not, row by row; else they are more or less apart."""
    section: ClassVar[str] = "Errors"
    """The heading of what known truths tell about a ghost, where rows are not right or wrong."""
    paired: ClassVar[str] = "the ghost comes closer to {closer:,} and the live model to {farther:,}"
    """The sentence there about a comparison row by row."""
    alone: ClassVar[bool] = False
    """Whether it cannot be one of several."""
    accuracy: ClassVar[str] = "accuracy"
    """The metric that is the share of the rows that are right, where a row is right or wrong."""
    label_schema: ClassVar[Mapping[str, Any]] = {"type": "string"}
    """JSON Schema of a label in an answer, see `label_values`."""
    feedback_schema: ClassVar[Mapping[str, Any]] = {"type": ["string", "number"]}
    """JSON Schema of a truth that a caller sends."""
    headline: ClassVar[str]
    """The metric that a model is named with."""
    metric: ClassVar[str]
    """A metric of Keras for it."""
    predictions: ClassVar[str]
    """What the model gives, in the plural."""
    one: ClassVar[str]
    """One of them, as its difference is measured."""
    invalid: ClassVar[str]
    """What makes them invalid, as a clause."""

    # What it is.

    @property
    @abstractmethod
    def output(self) -> str:
        """Name of the exported model's output."""

    @property
    def parts(self) -> "tuple[Target, ...]":
        """The targets that it is made of: itself, but of several."""
        return (self,)

    @property
    def outputs(self) -> Mapping[str, tuple[int, ...]]:
        """By the name of each of the exported model's outputs its shape for one row."""
        return {self.output: self.row_shape}

    @property
    @abstractmethod
    def row_shape(self) -> tuple[int, ...]:
        """Shape of the output for one row; of several those beside each other."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of which a row has one, in order; empty where there are none."""
        return ()

    @property
    def has_labels(self) -> bool:
        """Whether it says labels of a row, which an answer may hold."""
        return any(part.labels_agree for part in self.parts)

    @property
    def value_names(self) -> tuple[str, ...]:
        """What each value of the output is about, in order; empty where it is one value."""
        return ()

    @property
    def has_threshold(self) -> bool:
        """Whether a threshold is chosen on the validation split."""
        return False

    def decided(self, truth: Array, predictions: NDArray[np.float32]) -> "Target":
        """The target with what a run decides by its validation split, such as thresholds that predictions are read by.

        truth: of `encode`; predictions: (n, *row_shape).
        """
        return self

    @abstractmethod
    def check(self) -> None:
        """Raises SettingsError if it cannot be learned as it is defined."""

    def to_json(self) -> dict[str, Any]:
        """As a manifest holds it."""
        return {"kind": self.kind, "name": self.name}

    @classmethod
    @abstractmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Target":
        """See `to_json`. Raises KeyError or TypeError."""

    @abstractmethod
    def in_words(self, metrics: Mapping[str, Any]) -> str:
        """The figure that a line about a model names. metrics: of `metrics`."""

    def said(self, metrics: Mapping[str, Any]) -> str:
        """What a log says of an evaluation. metrics: of `metrics`."""
        return self.in_words(metrics)

    # The truth.

    def given(self, columns: Sequence[Sequence[Any]]) -> Sequence[Any]:
        """The truths of records, from the columns of the properties of `parts`."""
        return columns[0]

    @abstractmethod
    def text(self, value: object) -> str:
        """The truth in a record as text, which parts of a dataset keep. Raises ValueError with a clause."""

    def texts(self, values: Sequence[object]) -> tuple[list[bytes], NDArray[np.bool_]]:
        """The truths of many records as text in UTF-8, and which of them are valid."""
        texts, valid = [b""] * len(values), np.ones(len(values), bool)
        for place, value in enumerate(values):
            try:
                texts[place] = self.text(value).encode()
            except ValueError:
                valid[place] = False
        return texts, valid

    @abstractmethod
    def encode(self, texts: Sequence[bytes], record: Mapping[str, Any]) -> tuple[Array, NDArray[np.bool_]]:
        """Truths (n, ...) as the loss takes them, and which of them are valid. record: the record's JSON Schema."""

    def allowed(self, record: Mapping[str, Any]) -> Mapping[str, int]:
        """Labels that a record may have, with their index; empty where there are none. record: its JSON Schema."""
        return {}

    def identity(self) -> Any:
        """JSON values that change with everything that changes what a truth is encoded as."""
        return self.to_json()

    def text_identity(self) -> list[str]:
        """Changes with everything that changes which truths are valid to `text`."""
        return []

    def described(self, truth: Array) -> dict[str, Any]:
        """What a dataset version says of the truths of a split. truth: of `encode`, of all of it."""
        return {}

    def split_fault(self, described: Mapping[str, Any]) -> str:
        """What a split lacks to learn from it and to measure by it; empty if nothing. described: of `described`."""
        return ""

    @abstractmethod
    def decode(self, truth: Any) -> str | float | list[str]:
        """A truth as `encode` gave it, as the JSON value that a record has."""

    def shown(self, truth: Any) -> str:
        """A truth as `encode` gave it, for people."""
        return str(self.decode(truth))

    def of_record(self, known: str | float) -> str | float | list[str]:
        """A truth of `known` as the JSON value that a record has."""
        return known

    def in_record(self, known: str | float) -> dict[str, Any]:
        """The properties of a record that hold a truth of `known`."""
        return {self.name: self.of_record(known)}

    @abstractmethod
    def feedback(self, value: object) -> str | float:
        """A truth that a caller sends, as events hold it. Raises ValueError with what is expected."""

    def known(self, value: object) -> str | float | None:
        """A truth of an event, None if it is none of this target: whatever another version's callers sent."""
        try:
            return self.feedback(value)
        except ValueError:
            return None

    # The network.

    def for_loss(self, truth: Array) -> Any:
        """Truths of `encode`; of several targets by their names."""
        return truth

    def joined(self, output: Any) -> NDArray[np.float32]:
        """What a network gives as one array."""
        return np.asarray(output, np.float32)

    @property
    def compiling(self) -> str:
        """Arguments of `compile` that fit, as code."""
        return f"loss={self.loss!r}, metrics=[{self.metric!r}]"

    @abstractmethod
    def output_fault(self, shape: tuple[int | None, ...] | None) -> str:
        """What an output of this shape has to be instead; empty if it fits."""

    @abstractmethod
    def fits_loss(self, name: str) -> bool:
        """Whether Keras's loss of this name may be for the target."""

    @abstractmethod
    def prediction_fault(self, served: NDArray[np.float32]) -> str:
        """Why what a network predicts is nothing, as a clause; empty if it is valid."""

    @abstractmethod
    def difference(self, found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
        """The largest difference of predictions that should be the same, so that 1e-4 is a hundred times rounding."""

    @abstractmethod
    def agreeing(self, found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
        """The share of the rows that both answer the same."""

    # Rows whose truth is known.

    @abstractmethod
    def rows(self, truth: Array, predictions: NDArray[np.float32]) -> Any:
        """Rows for the methods below. truth: of `encode`; predictions: (n, *row_shape)."""

    @abstractmethod
    def metrics(self, rows: Any) -> dict[str, Any]:
        """Everything that follows from the predictions, as JSON values without NaN.

        At least `examples`, `invalid` (predictions that are none), and each metric by its name.
        """

    # The gate.

    def fitted(self, criteria: Criteria) -> Criteria:
        """The criteria for this target. Raises SettingsError with a line for each table that cannot apply."""
        if criteria.by_default:
            return replace(criteria, rows=(self.default,))
        faults = [fault for row in criteria.rows if (fault := self._misplaced(row))]
        faults = faults or [*self.label_faults(criteria)]
        if faults:
            raise SettingsError("\n".join(faults))
        return replace(criteria, rows=tuple(replace(row, target="") for row in criteria.rows))

    def own(self, criteria: Criteria) -> Criteria:
        """The tables that are about this kind of target, or its default."""
        rows = tuple(row for row in criteria.rows if not self._misplaced(row))
        return replace(criteria, rows=rows or (self.default,))

    def label_faults(self, criteria: Criteria) -> Iterator[str]:
        """What is wrong with the labels that the tables name."""
        yield from ()

    @abstractmethod
    def compare(self, production: str, model: Any, other: Any, criteria: Criteria) -> Opponent:
        """The model beside the one in production, on the same rows. production: its version."""

    @abstractmethod
    def against_constant(self, model: Any, criteria: Criteria, learned: Array | None = None) -> Constant | None:
        """The model beside always answering the same; None if nothing is asked for.

        learned: the truths of the train split, if they are at hand.
        """

    def losses(self, opponent: Opponent, criteria: Criteria) -> Iterator[str]:
        """Why the gate is closed against production."""
        examples = opponent.comparison.examples if opponent.comparison else 0
        production = opponent.comparison.production if opponent.comparison else ""
        for row in criteria.judged:
            if row.metric in opponent.changes:
                yield from lost(opponent.changes[row.metric], row.maximum_regression or 0.0, production, examples)

    @abstractmethod
    def why_other(self, there: "Target") -> str:
        """Why a model with that target does another task, as a clause; empty if it does the same."""

    # Serving.

    @abstractmethod
    def noted(self, output: Array) -> tuple[list[str] | None, Array]:
        """What events note of the output (n, *row_shape): labels, if there are any, and scores (n,)."""

    def label_values(self, labels: list[str]) -> Sequence[str | list[str]]:
        """Labels of `noted` as an answer holds them."""
        return labels

    def same(self, one: str, other: str) -> bool:
        """Whether two labels of `noted` say the same."""
        return one == other

    @abstractmethod
    def signals(self, output: Array) -> dict[str, Array]:
        """By signal the values, one or several a row, whose distribution is watched. output: (n, *row_shape)."""

    def frequencies(self, signals: Mapping[str, Array]) -> Array:
        """How often each of `value_names` is predicted, where that is counted. signals: of `signals`."""
        return np.zeros(len(self.value_names), np.int64)

    @abstractmethod
    def edges(self, baseline: Mapping[str, Any]) -> dict[str, tuple[Array | None, Sequence[float]]]:
        """By signal the edges of its bins, None if the values are bins, and their shares. baseline: of a manifest."""

    @abstractmethod
    def baseline(self, predictions: NDArray[np.float32]) -> dict[str, Any]:
        """What a manifest's baseline holds of the predictions for the test split."""

    # Ghosts.

    @abstractmethod
    def observed(self, truth: Objects, answers: Sequence[Answers]) -> list[Any]:
        """Rows of each model's answers to the same rows. truth: (n,), none of them None."""

    def comparable(self, answers: Answers) -> NDArray[np.bool_]:
        """Which rows (n,) have an answer of this target."""
        return np.isfinite(answers.scores)

    def unlike(self, live: "Target") -> str:
        """Why answers of a live model with that target cannot be held against a ghost's, as a clause; else empty."""
        return "" if live.kind == self.kind else f"it predicts {live.predictions}, and the ghost {self.predictions}"

    def counted(self, rows: Any) -> dict[str, int]:
        """By label the rows that are it; empty where there are none."""
        return {}

    def right(self, rows: Any) -> Share | None:
        """How many rows are right; None where a row is nearer or farther."""
        return None

    def measurable(self, metric: str, rows: Any) -> bool:
        """Whether a metric can be had from what events hold."""
        return True

    def intervals(self, rows: Rows, names: Iterable[str]) -> dict[str, tuple[float, float, float]]:
        """By metric the low end, the value and the high end, with 95 % confidence."""
        return intervals(rows, names)

    @abstractmethod
    def agreement(self, live: Answers, ghost: Answers, truth: Objects) -> Agreement | None:
        """How far both agree over the rows that both predicted; None without any."""

    @abstractmethod
    def all_the_same(self, rows: Any) -> str:
        """The truth of every row if it is the same, as text; else empty."""

    def judge(self, opponent: Opponent, criteria: Criteria, clauses: Clauses) -> None:
        """Add what the known truths prove for and against a ghost, beside the live model."""
        for row in criteria.judged:
            if row.metric in opponent.changes:
                judge_change(opponent.changes[row.metric], row.maximum_regression or 0.0, clauses)

    def _misplaced(self, row: Criterion) -> str:
        """What is wrong with a table about a metric of another kind of target; empty if nothing is."""
        if row.target not in ("", self.name):
            return f"[{row.table}]: model.TARGETS has no {row.target!r}; it has {self.name!r}"
        if self.kind in row.facts.kinds:
            return ""
        asked = replace(self.default, target=row.target)
        example = "minimum" if METRICS[self.default.metric].higher_is_better else "maximum"
        others = ", ".join(name for name, facts in METRICS.items() if self.kind in facts.kinds)
        return (
            f"[{row.table}]: target {self.name!r} of model.TARGETS is of kind {self.kind!r}, which has no "
            f"{row.metric}; ask for [{asked.table}] {example} = ..., or by another of: {others}"
        )
