"""Vector: an embedding, by which rows are told to be of one identity or of two, also of those never seen before."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlplatform.config.settings import SettingsError
from mlplatform.contract.comparison import Constant, Opponent, Paired
from mlplatform.contract.criteria import Criteria, Criterion
from mlplatform.contract.drift import histogram
from mlplatform.contract.labels import label_text
from mlplatform.contract.metrics import split_name
from mlplatform.contract.resampling import changes, described, intervals
from mlplatform.contract.targets.base import Agreement, Answers, Array, Floats, Objects, Target
from mlplatform.contract.targets.clauses import Clauses
from mlplatform.contract.targets.figures import none_if_nan
from mlplatform.contract.targets.vector_measures import (
    COSINE,
    DISTANCES,
    METRICS,
    PAIRS,
    Vectors,
    normalised,
    similarities,
    valid,
)
from mlplatform.contract.targets.vector_notes import as_texts, is_text, of_texts

# Bytes of UTF-8 of an identity: a SHA-256 in hexadecimal digits.
LONGEST = 64
NO_PAIRS = (
    "the rows that have a vector are all of one identity, or each of another one, so there are no pairs to judge by"
)


@dataclass(frozen=True)
class Vector(Target):
    """An identity, whose rows the model gives vectors of `size` values that are near to each other.

    distance: "cosine", or "euclidean". A run chooses the `threshold`, from which similarity on two rows are said to be
    of one identity, by its validation split: with FALSE_ACCEPTS of vector_measures. Of distances a similarity is less
    than 0: the distance with a minus. centre: the mean vector there, which drift is measured from.
    """

    size: int
    distance: str = COSINE
    threshold: float | None = None
    centre: tuple[float, ...] = ()

    kind = "vector"
    default = Criterion("roc_auc", minimum=0.8, maximum_regression=0.02)
    loss = "circle"
    truths = "identities"
    noun = "similarity to the mean vector"
    headline = "roc_auc"
    metric = ""
    predictions = "vectors"
    one = "a vector, measured by their length,"
    invalid = "no vectors: not finite, or 0 in every value"
    section = "Verification"
    paired = "the ghost ranks the pairs of {closer:,} better and the live model those of {farther:,}"
    alone = True
    feedback_schema: ClassVar[Mapping[str, Any]] = {"type": ["string", "number", "boolean"]}

    @property
    def output(self) -> str:
        """See the base."""
        return self.name

    @property
    def row_shape(self) -> tuple[int, ...]:
        """See the base."""
        return (self.size,)

    @property
    def has_threshold(self) -> bool:
        """Always."""
        return True

    def decided(self, truth: Array, predictions: NDArray[np.float32]) -> "Vector":
        """See the base: with a threshold, unless one is given, and the centre."""
        rows = self.rows(truth, predictions)
        known = rows.vectors[rows.valid]
        mean = _unit(known, self.distance).mean(axis=0) if len(known) else np.zeros(self.size)
        return replace(
            self,
            threshold=rows.pairs.threshold() if self.threshold is None else self.threshold,
            centre=tuple(float(f"{value:.6g}") for value in mean.tolist()),
        )

    def check(self) -> None:
        """See the base."""
        if not isinstance(self.name, str) or not self.name.isidentifier() or self.name == "id":
            raise SettingsError(f"model.TARGETS: {self.name!r} must be a property of model.RECORD, and not 'id'")
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 2:
            raise SettingsError(f"model.TARGETS: size of {self.name!r} is {self.size!r}; give the vectors two values")
        if self.distance not in DISTANCES:
            raise SettingsError(
                f"model.TARGETS: distance of {self.name!r} is {self.distance!r}; use one of {', '.join(DISTANCES)}"
            )

    def to_json(self) -> dict[str, Any]:
        """See the base."""
        return {
            **super().to_json(),
            "size": self.size,
            "distance": self.distance,
            "threshold": self.threshold,
            "centre": list(self.centre),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Vector":
        """See the base."""
        return cls(value["name"], value["size"], value["distance"], value["threshold"], tuple(value["centre"]))

    def in_words(self, metrics: Mapping[str, Any]) -> str:
        """See the base."""
        return f"ROC AUC {_figure(metrics['roc_auc'])}"

    def said(self, metrics: Mapping[str, Any]) -> str:
        """See the base."""
        interval = metrics["intervals"].get("roc_auc")
        bounds = f"between {interval['low']:.4f} and {interval['high']:.4f}" if interval else "of unknown bounds"
        pairs = f"{metrics['pairs']['same']:,} pairs of one identity and {metrics['pairs']['different']:,} of two"
        return f"{self.in_words(metrics)}, {bounds} with 95 % confidence; equal error rate " + (
            f"{_figure(metrics['equal_error_rate'])}, over {pairs}"
        )

    # The truth.

    def text(self, value: object) -> str:
        """See the base."""
        if not isinstance(value, str | int | float):
            raise ValueError("is no identity, a text or a number")
        text = label_text(value)
        if not text or "\0" in text or len(text.encode()) > LONGEST:
            raise ValueError(f"is no identity of 1 to {LONGEST} bytes")
        return text

    def encode(self, texts: Sequence[bytes], record: Mapping[str, Any]) -> tuple[Array, NDArray[np.bool_]]:
        """Identities (n,) as bytes of UTF-8, filled up to LONGEST; all of them are valid, as `text` lets no other pass.

        Which identities there are is not known while parts of a source are read, so none has a number.
        """
        return np.array(texts, f"S{LONGEST}"), np.ones(len(texts), bool)

    def identity(self) -> Any:
        """See the base: size and distance change no truth."""
        return {"kind": self.kind, "name": self.name}

    def described(self, truth: Array) -> dict[str, Any]:
        """`identities`: their `count`, the `pairs` of rows of one, and the fewest, median and most `rows` of one."""
        counts = np.unique(truth, return_counts=True)[1] if len(truth) else np.zeros(0, np.int64)
        rows = [int(counts.min()), float(np.median(counts)), int(counts.max())] if len(counts) else [0, 0.0, 0]
        return {
            "identities": {
                "count": len(counts),
                "pairs": int((counts * (counts - 1) // 2).sum()),
                "rows": dict(zip(("fewest", "median", "most"), rows, strict=True)),
            }
        }

    def split_fault(self, described: Mapping[str, Any]) -> str:
        """See the base."""
        found = described["identities"]
        if found["count"] < 2:
            return f"{found['count']} identities of {self.name!r}, where two are compared"
        return "" if found["pairs"] else f"no two examples of one identity of {self.name!r}"

    def decode(self, truth: Any) -> str:
        """See the base."""
        return bytes(truth).decode()

    def feedback(self, value: object) -> str:
        """See the base: any identity, also one never seen before."""
        try:
            return self.text(value)
        except ValueError:
            raise ValueError(f"expected the true {self.name}, a text or a number of up to {LONGEST} bytes") from None

    # The network.

    def for_loss(self, truth: Array) -> Array:
        """(n,), int32: the same number for the same identity, 0, 1, ... within these rows, which are a batch.

        So a loss compares the rows of a batch with each other, also those of a split whose identities were never
        trained; and the numbers stay exact as float32, which Keras makes of them.
        """
        return np.unique(truth, return_inverse=True)[1].reshape(-1).astype(np.int32)

    @property
    def compiling(self) -> str:
        """See the base: there is no metric for it."""
        return f"loss={self.loss!r}"

    def output_fault(self, shape: tuple[int | None, ...] | None) -> str:
        """See the base."""
        return "" if shape == (None, self.size) else f"a vector for target {self.name!r}, (None, {self.size})"

    def fits_loss(self, name: str) -> bool:
        """Circle is the only one of Keras that compares the rows of a batch."""
        return name.lower() == "circle"

    def prediction_fault(self, served: NDArray[np.float32]) -> str:
        """See the base."""
        if not np.isfinite(served).all():
            return "a vector is not finite after one step; lower the learning rate, or scale"
        if not valid(served, self.distance).all():
            return (
                "a vector is 0 in every value after one step, and has no direction; end with a layer without "
                "activation, and keras.layers.UnitNormalization"
            )
        return ""

    def difference(self, found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
        """The largest distance of two vectors, by the root mean square of their lengths."""
        wide = expected.astype(np.float64)
        length = float(np.sqrt(np.square(wide).sum(axis=1).mean()))
        return float(np.linalg.norm(found.astype(np.float64) - wide, axis=1).max()) / (length or 1.0)

    def agreeing(self, found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
        """See the base: what counts is how far they differ."""
        return 1.0

    # Rows whose truth is known.

    def rows(self, truth: Array, predictions: NDArray[np.float32]) -> Vectors:
        """See the base."""
        return Vectors(truth, predictions, self.distance, self.threshold)

    def metrics(self, rows: Vectors) -> dict[str, Any]:
        """Each of vector_measures.METRICS, and `intervals` of them (95 %), for which identities are drawn again;
        `identities` and `pairs`, how many; `threshold`, with the `true_accept_rate` and `false_accept_rate` of it.
        """
        pairs, threshold = rows.pairs, rows.threshold
        return {
            "examples": len(rows),
            "invalid": int((~rows.valid).sum()),
            "identities": pairs.identities,
            "pairs": pairs.counts,
            **{name: none_if_nan(value) for name, value in pairs.values(METRICS).items()},
            "intervals": described(pairs, METRICS),
            "threshold": {"value": threshold, **pairs.accepted(threshold)}
            if threshold is not None and pairs.both
            else None,
        }

    # The gate.

    def label_faults(self, criteria: Criteria) -> Iterator[str]:
        """See the base: there are no labels."""
        for row in criteria.rows:
            metric, label = split_name(row.metric)
            if label is not None:
                whole = replace(row, metric=metric).table
                yield f"[{row.table}]: target {self.name!r} has no labels; ask for [{whole}]"
        for label in criteria.absent_labels:
            yield f"gate.absent_labels: target {self.name!r} has no labels; leave {label!r} out"

    def compare(self, production: str, model: Vectors, other: Vectors, criteria: Criteria) -> Opponent:
        """By the difference of each metric over the same pairs, and row by row by how far its pairs are ranked wrongly,
        where both have a vector.
        """
        both = model.valid & other.valid
        here, there = model.at(both).pairs, other.at(both).pairs
        if not here.both:
            return Opponent(unusable=f"this model and {production} cannot be compared: {NO_PAIRS}")
        ours, theirs = here.errors(), there.errors()
        known = np.isfinite(ours)
        names = dict.fromkeys([self.headline, *(row.metric for row in criteria.judged)])
        return Opponent(Paired.of(production, ours[known], theirs[known]), changes(here, there, names))

    def against_constant(self, model: Vectors, criteria: Criteria, learned: Array | None = None) -> Constant | None:
        """Beside the same vector for every row, which ranks pairs as chance does."""
        if criteria.asks_nothing or not model.pairs.both:
            return None
        names = [row.metric for row in criteria.rows if not row.asks_nothing]
        found = changes(model.pairs, model.pairs.constant(), names)
        return Constant("the same vector", None, tuple(found.values()))

    def why_other(self, there: Target) -> str:
        """See the base: vectors of any size and distance are judged by the same pairs."""
        return ""

    def unlike(self, live: Target) -> str:
        """See the base; or another distance, by which events are read."""
        if isinstance(live, Vector) and live.distance != self.distance:
            return f"its distance is {live.distance}, and the ghost's {self.distance}"
        return super().unlike(live)

    # Serving.

    def noted(self, output: Array) -> tuple[list[str], Array]:
        """Labels: the vectors, see vector_notes; empty for what is none. Scores: the similarity to the centre."""
        texts, known = as_texts(output), valid(output, self.distance)
        return [text if there else "" for text, there in zip(texts, known, strict=True)], self._to_centre(output)

    def signals(self, output: Array) -> dict[str, Array]:
        """`similarity`: to the centre, of those that are finite."""
        to_centre = self._to_centre(output)
        return {"similarity": to_centre[np.isfinite(to_centre)]}

    def edges(self, baseline: Mapping[str, Any]) -> dict[str, tuple[Array | None, Sequence[float]]]:
        """See the base."""
        similarity = baseline["similarity"]
        return {"similarity": (np.asarray(similarity["edges"]), similarity["shares"])}

    def baseline(self, predictions: NDArray[np.float32]) -> dict[str, Any]:
        """`similarity`: to the centre, a histogram by quantiles."""
        return {"similarity": histogram(self._to_centre(predictions))}

    def _to_centre(self, output: Array) -> Floats:
        """(rows,): the similarity of vectors (rows, size) to the centre; NaN for what is none."""
        known = valid(output, self.distance)
        rows = np.arange(int(known.sum()))
        centre = np.array([self.centre or (0.0,) * self.size])
        beside = np.concatenate([output[known], centre])
        found = np.full(len(output), np.nan)
        found[known] = similarities(beside, rows, np.full(len(rows), len(rows)), self.distance)
        return found

    # Ghosts.

    def observed(self, truth: Objects, answers: Sequence[Answers]) -> list[Vectors]:
        """An event holds the vector, see vector_notes."""
        identities = truth.astype(str)
        return [Vectors(identities, of_texts(said.labels), self.distance, self.threshold) for said in answers]

    def comparable(self, answers: Answers) -> NDArray[np.bool_]:
        """See the base: those with a vector."""
        return np.array([is_text(label) for label in answers.labels], bool)

    def intervals(self, rows: Any, names: Iterable[str]) -> dict[str, tuple[float, float, float]]:
        """See the base: identities are drawn again."""
        return intervals(rows.pairs, names)

    def agreement(self, live: Answers, ghost: Answers, truth: Objects) -> "PairAgreement | None":
        """See the base."""
        both = self.comparable(live) & self.comparable(ghost)
        if both.sum() < 3:
            return None
        return PairAgreement.of(of_texts(live.labels[both]), of_texts(ghost.labels[both]), self.distance)

    def all_the_same(self, rows: Vectors) -> str:
        """See the base."""
        same = len(rows) and (rows.identities == rows.identities[0]).all()
        return str(rows.identities[0]) if same else ""

    def judge(self, opponent: Opponent, criteria: Criteria, clauses: Clauses) -> None:
        """See the base."""
        if opponent.unusable:
            clauses.open.append(f"{opponent.unusable}: more labels would tell")
        super().judge(opponent, criteria, clauses)


@dataclass(frozen=True)
class PairAgreement(Agreement):
    """How far two models find the same pairs of rows similar, whatever their spaces.

    rows, pairs: how many. correlation: of the similarities' ranks; Spearman (1904), Am. J. Psychol. 15, 72. None where
    all pairs of either are alike.
    """

    rows: int
    pairs: int
    correlation: float | None

    @classmethod
    def of(cls, live: Floats, ghost: Floats, distance: str) -> "PairAgreement":
        """Of vectors (rows, size) of the same rows, at least three, in pairs at random where there are many."""
        from scipy.stats import rankdata

        rows = len(live)
        first, second = np.triu_indices(rows, 1) if rows * (rows - 1) // 2 <= PAIRS else _some_pairs(rows)
        ranks = [rankdata(similarities(vectors, first, second, distance)) for vectors in (live, ghost)]
        varied = all(one.std() > 0 for one in ranks)
        return cls(rows, len(first), float(np.corrcoef(*ranks)[0, 1]) if varied else None)

    def to_json(self) -> dict[str, Any]:
        """See the base."""
        return {"agreement": None, "pairs": asdict(self)}

    def in_words(self) -> str:
        """See the base."""
        return f"rank correlation of pairs {_figure(self.correlation)}"

    def judge(self, criteria: Criteria, clause: str, clauses: Clauses) -> None:
        """Every metric follows from the order of the pairs, so in the same order none differs."""
        text = f"their similarities rank {self.pairs:,} pairs of {self.rows:,} rows"
        if self.correlation is not None and self.correlation > 1 - 1e-12:
            clauses.good.append(f"{text} in the same order: no metric can differ")
        else:
            told = f"with a correlation of {_figure(self.correlation)}"
            clauses.open.append(f"{text} {told}, which leaves open which of them is right where they differ; {clause}")


def _some_pairs(rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    generator = np.random.default_rng(0)
    first = generator.integers(0, rows, PAIRS)
    return first, (first + generator.integers(1, rows, PAIRS)) % rows


def _unit(vectors: Array, distance: str) -> Floats:
    return normalised(vectors) if distance == COSINE else vectors.astype(np.float64)


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
