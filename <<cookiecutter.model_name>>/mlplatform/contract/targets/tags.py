"""Tags: any number of labels of a row, by the probability of each and a threshold of its own."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlplatform.config.settings import SettingsError
from mlplatform.contract.comparison import Change, Comparison, Constant, Opponent, Share
from mlplatform.contract.criteria import Criteria, Criterion
from mlplatform.contract.drift import histogram
from mlplatform.contract.labels import label_text
from mlplatform.contract.metrics import METRICS, split_name
from mlplatform.contract.resampling import changes, described
from mlplatform.contract.targets import tag_measures
from mlplatform.contract.targets.base import Agreement, Answers, Array, Floats, Objects, Target
from mlplatform.contract.targets.class_judging import Disagreement, disagreements
from mlplatform.contract.targets.clauses import Clauses
from mlplatform.contract.targets.label_lists import some, unknown, why_others
from mlplatform.contract.targets.tag_measures import Mask, TagRows

# The threshold of a tag that the validation split has no example of.
HALF = 0.5
# Losses of Keras for probabilities that are each by themselves.
LOSSES = ("binary", "meansquarederror", "meanabsoluteerror", "huber", "dice", "tversky")
# Metrics whose interval a manifest holds.
WITH_INTERVAL = ("macro_f1", "micro_f1", "subset_accuracy", "hamming_loss")
# What stands for metrics that saying every tag is best by, where the model is held against a constant answer.
_HELD_BY = {"recall": "macro_f1", "macro_recall": "macro_f1", "precision": "macro_precision", "f1": "macro_f1"}
# Metrics that cannot differ by more than the share of the rows to which both do not say the same.
_BOUNDED = ("subset_accuracy", "hamming_loss")


@dataclass(frozen=True)
class Tags(Target):
    """Any number of `labels` of a row; the model gives the probability of each, in their order.

    A tag is said from its threshold on. Without thresholds a run chooses them: those with the highest F1 on its
    validation split. Labels may be given as numbers or booleans; they are text from here on.
    """

    tags: tuple[str, ...]
    thresholds: tuple[float, ...]

    kind = "tags"
    default = Criterion("macro_f1", minimum=0.5, maximum_regression=0.02)
    loss = "binary_crossentropy"
    truths = "rows of 0 and 1, one for each label"
    noun = "mean probability"
    labels_agree = True
    accuracy = "subset_accuracy"
    headline = "macro_f1"
    metric = "binary_accuracy"
    predictions = "probabilities of tags"
    one = "a probability"
    invalid = "no probabilities: not between 0 and 1"
    label_schema: ClassVar[Mapping[str, Any]] = {"type": "array", "items": {"type": "string"}}
    feedback_schema: ClassVar[Mapping[str, Any]] = {
        "type": ["array"],
        "items": {"type": ["string", "number", "boolean"]},
    }

    def __init__(self, name: str, labels: Sequence[object], thresholds: Sequence[float] = ()) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "tags", tuple(label_text(label) for label in labels))
        object.__setattr__(self, "thresholds", tuple(thresholds))

    @property
    def output(self) -> str:
        """See the base."""
        return self.name

    @property
    def row_shape(self) -> tuple[int, ...]:
        """See the base."""
        return (len(self.tags),)

    @property
    def value_names(self) -> tuple[str, ...]:
        """See the base."""
        return self.tags

    @property
    def has_threshold(self) -> bool:
        """Unless the thresholds are given."""
        return not self.thresholds

    @property
    def limits(self) -> Floats:
        """(tags,): from which probability on each is said."""
        return np.array(self.thresholds or [HALF] * len(self.tags))

    def decided(self, truth: Array, predictions: NDArray[np.float32]) -> "Tags":
        """See the base: with a threshold for each tag."""
        if not self.has_threshold:
            return self
        rows = self.rows(truth, predictions)
        chosen = [
            tag_measures.best_threshold(rows.true[:, tag], rows.of_every_tag()[:, tag]) for tag in range(len(self.tags))
        ]
        return Tags(self.name, self.tags, [HALF if threshold is None else threshold for threshold in chosen])

    def check(self) -> None:
        """Raises SettingsError if a label is there twice, or there is none, or the thresholds are not theirs."""
        if not isinstance(self.name, str) or not self.name.isidentifier() or self.name == "id":
            raise SettingsError(f"model.TARGETS: {self.name!r} must be a property of model.RECORD, and not 'id'")
        twice = [label for place, label in enumerate(self.tags) if label in self.tags[:place]]
        if twice or not self.tags:
            fault = f"{twice[0]!r} is there twice" if twice else "there is none"
            raise SettingsError(f"model.TARGETS: labels of {self.name!r}: {fault}; name each tag once")
        fitting = len(self.thresholds) == len(self.tags) and all(0 <= limit <= 1 for limit in self.thresholds)
        if self.thresholds and not fitting:
            raise SettingsError(
                f"model.TARGETS: thresholds of {self.name!r} are {self.thresholds}; give one from 0 to 1 for each of "
                f"its {len(self.tags)} labels, or none and let the run choose"
            )

    def to_json(self) -> dict[str, Any]:
        """See the base."""
        return {**super().to_json(), "labels": list(self.tags), "thresholds": list(self.thresholds)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Tags":
        """See the base."""
        return cls(value["name"], value["labels"], value["thresholds"])

    def in_words(self, metrics: Mapping[str, Any]) -> str:
        """See the base."""
        return f"macro F1 {_figure(metrics['macro_f1'])}"

    def said(self, metrics: Mapping[str, Any]) -> str:
        """See the base."""
        interval = metrics["intervals"].get("macro_f1")
        bounds = f"between {interval['low']:.4f} and {interval['high']:.4f}" if interval else "of unknown bounds"
        exact = f"all tags right in {_figure(metrics['subset_accuracy'])}"
        return f"{self.in_words(metrics)}, {bounds} with 95 % confidence; {exact}"

    # The truth.

    def text(self, value: object) -> str:
        """See the base: a JSON array of the labels in the order of their letters."""
        if not isinstance(value, list):
            raise ValueError("is no list of labels")
        labels = _label_texts(value)
        for place, label in enumerate(labels):
            if label not in self.tags:
                raise ValueError(f"names {label!r}, which is none of the labels of {self.name!r} in model.TARGETS")
            if label in labels[:place]:
                raise ValueError(f"names {label!r} twice")
        return as_text(labels)

    def encode(self, texts: Sequence[bytes], record: Mapping[str, Any]) -> tuple[Array, NDArray[np.bool_]]:
        """1 for each tag that a row has, else 0: (n, tags), float32; all are valid, as `text` lets no other pass."""
        places = {label: place for place, label in enumerate(self.tags)}
        found = {text: [places[label] for label in json.loads(text)] for text in {*texts}}
        encoded = np.zeros((len(texts), len(self.tags)), np.float32)
        for row, text in enumerate(texts):
            encoded[row, found[text]] = 1
        return encoded, np.ones(len(texts), bool)

    def identity(self) -> Any:
        """See the base: thresholds change no truth."""
        return {"kind": self.kind, "name": self.name, "labels": list(self.tags)}

    def text_identity(self) -> list[str]:
        """See the base."""
        return sorted(self.tags)

    def described(self, truth: Array) -> dict[str, Any]:
        """`classes`: by label the examples that have it; `without`: examples that have none."""
        counts = truth.sum(axis=0, dtype=np.float64).astype(np.int64).tolist()
        return {
            "classes": dict(zip(self.tags, counts, strict=True)),
            "without": int((~truth.astype(bool).any(axis=1)).sum()),
        }

    def decode(self, truth: Any) -> list[str]:
        """See the base; in the order of their letters."""
        return sorted(label for label, there in zip(self.tags, np.asarray(truth).tolist(), strict=True) if there)

    def shown(self, truth: Any) -> str:
        """See the base."""
        return in_line(self.decode(truth))

    def of_record(self, known: str | float) -> list[str]:
        """See the base."""
        return of_text(str(known))

    def feedback(self, value: object) -> str:
        """See the base."""
        if not isinstance(value, list):
            raise ValueError(f"expected a list of labels; the model knows: {some(self.tags)}")
        labels = {*_label_texts(value)}
        if others := sorted(labels - {*self.tags}):
            raise ValueError(f"it names {others[0]!r}; the model knows: {some(self.tags)}")
        return as_text(labels)

    def known(self, value: object) -> str | None:
        """Tags of an event, also those that the model does not know, which are mistakes then. A file has text."""
        try:
            labels = json.loads(value) if isinstance(value, str) else value
            return as_text({*_label_texts(labels)}) if isinstance(labels, list) else None
        except ValueError:
            return None

    # The network.

    def output_fault(self, shape: tuple[int | None, ...] | None) -> str:
        """See the base."""
        if shape == (None, len(self.tags)):
            return ""
        return f"one probability for each of the {len(self.tags)} labels of {self.name!r}, (None, {len(self.tags)})"

    def fits_loss(self, name: str) -> bool:
        """Not those that take one label of several, or whose values are no probabilities."""
        plain = name.lower().replace("_", "")
        return any(fitting in plain for fitting in LOSSES)

    def prediction_fault(self, served: NDArray[np.float32]) -> str:
        """See the base."""
        if not np.isfinite(served).all():
            return "a prediction is not finite after one step; lower the learning rate, or scale"
        if served.min() < 0 or served.max() > 1:
            beyond = served.min() if served.min() < 0 else served.max()
            return (
                f"the output is no probability, it is {beyond:.3g}; end with activation='sigmoid', and a loss with "
                "from_logits=False"
            )
        return ""

    def difference(self, found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
        """The largest difference of a probability."""
        return float(np.abs(found - expected).max())

    def agreeing(self, found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
        """With the same tags."""
        return float(np.mean(((found >= self.limits) == (expected >= self.limits)).all(axis=1)))

    # Rows whose truth is known.

    def rows(self, truth: Array, predictions: NDArray[np.float32]) -> TagRows:
        """See the base."""
        return tag_measures.of_predictions(self.tags, truth, predictions, self.limits)

    def metrics(self, rows: TagRows) -> dict[str, Any]:
        """All of `tag_measures.listed`, such as `macro_f1`, and `intervals` of WITH_INTERVAL (95 %); `classes`, by tag:
        `examples` that have it and to which it is `said`, its `threshold`, and each metric of one tag, null where it
        would divide by zero; `tags_per_row`: `true` and `said` in the mean; `invalid`: examples with a value that is no
        probability, which are wrong in every tag.
        """
        of_tags, said = tag_measures.of_tags(rows), rows.said.sum(axis=0).tolist()
        return {
            "examples": len(rows),
            **tag_measures.listed(rows),
            "invalid": int((~rows.valid).sum()),
            "intervals": described(rows, WITH_INTERVAL),
            "tags_per_row": {"true": float(rows.true.sum() / len(rows)), "said": float(rows.said.sum() / len(rows))},
            "classes": {
                label: {"examples": int(examples), "said": often, "threshold": limit, **of_tags[label]}
                for label, examples, often, limit in zip(
                    self.tags, rows.counts, said, self.limits.tolist(), strict=True
                )
            },
        }

    # The gate.

    def label_faults(self, criteria: Criteria) -> Iterator[str]:
        """See the base."""
        yield from unknown(criteria, self.tags)
        for row in criteria.rows:
            if row.of_each_class and row.maximum_regression is not None:
                yield (
                    f"[{row.table}]: maximum_regression is of one figure; ask for it in "
                    f"[{replace(row, metric=f'macro_{row.metric}').table}], or in [{row.table}.LABEL] for a single tag"
                )

    def compare(self, production: str, model: TagRows, other: TagRows, criteria: Criteria) -> Opponent:
        """Row by row by whether all tags are right, by the difference of each metric, and by what is found of a tag."""
        names = dict.fromkeys([self.headline, *(row.metric for row in criteria.judged)])
        return Opponent(
            Comparison.of(production, model.exact, other.exact),
            changes(model, other, names),
            {
                label: Comparison.of(production, model.said[has, tag], other.said[has, tag])
                for tag, label in enumerate(model.labels)
                if (has := model.true[:, tag]).any()
            },
        )

    def against_constant(self, model: TagRows, criteria: Criteria, learned: Array | None = None) -> Constant | None:
        """Beside always saying the tags that a metric is best by: those of the train split, else of these rows."""
        if criteria.asks_nothing:
            return None
        names: dict[str, None] = {}
        for row in criteria.rows:
            metric, label = split_name(row.metric)
            held_by = f"f1.{label}" if metric == "recall" and label else _HELD_BY.get(row.metric, row.metric)
            if not row.asks_nothing:
                names[held_by] = None
        truth = model.true if learned is None else learned.astype(bool)
        told: dict[str, None] = {}
        found: list[Change] = []
        for name in names:
            tags = _best_constant(name, truth)
            told[_constant_in_words(model.labels, tags)] = None
            found += changes(model, model.always(tags), [name]).values()
        return Constant(" or ".join(told), None, tuple(found))

    def why_other(self, there: Target) -> str:
        """See the base."""
        return why_others(self.tags, there.value_names)

    # Serving.

    def noted(self, output: Array) -> tuple[list[str], Array]:
        """Labels: the tags from their thresholds on, as a JSON array in the order of their letters. Scores: the mean
        probability of the tags, which times their number is how many of them are to be expected.
        """
        kinds, place = np.unique(output >= self.limits, axis=0, return_inverse=True)
        texts = [as_text(self.decode(kind)) for kind in kinds]
        return [texts[at] for at in place.reshape(-1).tolist()], output.mean(axis=1)

    def label_values(self, labels: list[str]) -> list[list[str]]:
        """See the base."""
        return [of_text(label) for label in labels]

    def signals(self, output: Array) -> dict[str, Array]:
        """`tags`: the index of each tag said, the number of tags for a row without any; `probability`: the mean."""
        said = output >= self.limits
        without = int((~said.any(axis=1)).sum())
        mean = output.mean(axis=1)
        return {
            "tags": np.append(np.nonzero(said)[1], np.full(without, len(self.tags))),
            "probability": mean[np.isfinite(mean)],
        }

    def frequencies(self, signals: Mapping[str, Array]) -> Array:
        """See the base."""
        return np.bincount(signals["tags"], minlength=len(self.tags) + 1)[: len(self.tags)]

    def edges(self, baseline: Mapping[str, Any]) -> dict[str, tuple[Array | None, Sequence[float]]]:
        """See the base."""
        probability = baseline["probability"]
        shares = [baseline["tags"].get(label, 0.0) for label in self.tags]
        return {
            "tags": (None, [*shares, baseline["without"]]),
            "probability": (np.asarray(probability["edges"]), probability["shares"]),
        }

    def baseline(self, predictions: NDArray[np.float32]) -> dict[str, Any]:
        """`tags`: by label its share of all tags said, in which a row without any counts as one, `without`;
        `probability`: a histogram of the mean.
        """
        signals = self.signals(predictions)
        counts = np.bincount(signals["tags"], minlength=len(self.tags) + 1)
        shares = (counts / max(1, counts.sum())).tolist()
        return {
            "tags": dict(zip(self.tags, shares, strict=False)),
            "without": shares[-1],
            "probability": histogram(signals["probability"]),
        }

    # Ghosts.

    def observed(self, truth: Objects, answers: Sequence[Answers]) -> list[TagRows]:
        """An event holds the tags said. Tags that only the rows have follow those of the model."""
        columns = [truth, *(said.labels for said in answers)]
        found = {str(text): of_text(str(text)) for column in columns for text in column}
        others = {label for labels in found.values() for label in labels} - {*self.tags}
        labels = (*self.tags, *sorted(others))
        places = {label: place for place, label in enumerate(labels)}
        cells = []
        for column in columns:
            of_column = np.zeros((len(column), len(labels)), bool)
            for row, text in enumerate(column):
                of_column[row, [places[label] for label in found[str(text)]]] = True
            cells.append(of_column)
        valid = np.ones(len(truth), bool)
        return [TagRows(labels, cells[0], said, valid) for said in cells[1:]]

    def comparable(self, answers: Answers) -> NDArray[np.bool_]:
        """See the base: those with tags, be it none of them."""
        return np.array([label is not None for label in answers.labels], bool)

    def counted(self, rows: TagRows) -> dict[str, int]:
        """See the base."""
        return dict(zip(rows.labels, rows.counts.tolist(), strict=True))

    def right(self, rows: TagRows) -> Share | None:
        """In all tags."""
        return Share(int(rows.exact.sum()), len(rows)) if len(rows) else None

    def measurable(self, metric: str, rows: TagRows) -> bool:
        """See the base: what the tags said tell."""
        name, label = split_name(metric)
        return (label is None or label in rows.labels) and not METRICS[name].probabilities

    def agreement(self, live: Answers, ghost: Answers, truth: Objects) -> "TagAgreement | None":
        """See the base."""
        both = self.comparable(live) & self.comparable(ghost)
        if not both.any():
            return None
        return TagAgreement.of(live.labels[both], ghost.labels[both], truth[both])

    def all_the_same(self, rows: TagRows) -> str:
        """See the base."""
        same = len(rows) and (rows.true == rows.true[0]).all()
        return in_line([rows.labels[tag] for tag in np.flatnonzero(rows.true[0])]) if same else ""


@dataclass(frozen=True)
class TagAgreement(Agreement):
    """How often two models say the same tags.

    share: of the rows, all tags the same. jaccard: the mean, over the rows, of the share of the tags that either says
    which both say, 1 where neither says any; Jaccard (1912), New Phytologist 11, 37.
    """

    share: Share
    jaccard: float
    disagreements: tuple[Disagreement, ...] = ()

    @classmethod
    def of(cls, live: Objects, ghost: Objects, truth: Objects) -> "TagAgreement":
        """From the tags of both as text, and the true ones or None."""
        same = np.asarray(live == ghost, bool)
        found = {text: {*of_text(text)} for text in {*live, *ghost}}
        shares = [_jaccard(found[one], found[other]) for one, other in zip(live, ghost, strict=True)]
        told = [
            replace(each, live=in_line(of_text(each.live)), ghost=in_line(of_text(each.ghost)))
            for each in disagreements(live, ghost, truth)
        ]
        return cls(Share(int(same.sum()), len(same)), float(np.mean(shares)), tuple(told))

    def to_json(self) -> dict[str, Any]:
        """See the base."""
        return {
            "agreement": self.share.to_json(),
            "jaccard": self.jaccard,
            "disagreements": [asdict(disagreement) for disagreement in self.disagreements],
        }

    def in_words(self) -> str:
        """See the base."""
        return f"agreement {100 * self.share.value:.1f} %"

    def judge(self, criteria: Criteria, clause: str, clauses: Clauses) -> None:
        """Where both say the same to a share a of the rows, their subset accuracy differs by no more than 1 - a, and
        neither does their Hamming loss. Averages over tags may, where the tags that they differ in are rare.
        """
        share = self.share
        lowest = share.interval().low
        agreed = (
            f"both predict the same tags for {share.value:.2%} of {share.total:,} rows (95 %: at least {lowest:.2%}; "
            f"of all tags {self.jaccard:.2%} are the same)"
        )
        margins = [row.maximum_regression or 0.0 for row in criteria.judged]
        others = [row.metric for row in criteria.judged if row.metric not in _BOUNDED]
        if 1 - lowest > min(margins, default=0.01):
            clauses.open.append(f"{agreed}, which leaves open which of them is right where they differ; {clause}")
        elif others and share.hits < share.total:
            clauses.open.append(f"{agreed}, which does not tell {', '.join(others)}; {clause}")
        else:
            clauses.good.append(f"{agreed}: no metric can differ by more than its maximum_regression")


def as_text(labels: Sequence[str] | set[str]) -> str:
    """Labels as a JSON array in the order of their letters, so that the same ones are the same text."""
    return json.dumps(sorted(labels), ensure_ascii=False)


def of_text(text: str) -> list[str]:
    """The labels of `as_text`; of other text, as another kind of target gives it, that text."""
    try:
        labels = json.loads(text)
    except ValueError:
        return [text]
    return [label_text(label) for label in labels] if isinstance(labels, list) else [text]


def in_line(labels: Sequence[str]) -> str:
    """Labels for people."""
    return ", ".join(labels) or "no tag"


def _label_texts(values: list[Any]) -> list[str]:
    """Raises ValueError with a clause."""
    for value in values:
        if not isinstance(value, str | int | float):
            raise ValueError(f"holds {json.dumps(value)}, which is no label")
    return [label_text(value) for value in values]


def _best_constant(name: str, truth: Mask) -> Mask:
    """The tags (tags,) that a metric is best by if always the same ones are said, from truths (rows, tags)."""
    counts = truth.sum(axis=0)
    if name == "subset_accuracy":
        kinds, often = np.unique(truth, axis=0, return_counts=True)
        return np.asarray(kinds[often.argmax()])
    if name == "hamming_loss":
        return np.asarray(2 * counts > len(truth))
    if name == "micro_f1":
        # The most frequent ones, as many as are best.
        order = np.argsort(-counts, kind="stable")
        said = len(truth) * np.arange(1, len(counts) + 1)
        best = int(np.argmax(2 * np.cumsum(counts[order]) / (said + counts.sum())))
        chosen = np.zeros(len(counts), bool)
        chosen[order[: best + 1]] = True
        return chosen
    return np.ones(len(counts), bool)


def _constant_in_words(labels: Sequence[str], tags: Mask) -> str:
    if len(labels) > 1 and tags.all():
        return "every tag"
    return some([label for label, there in zip(labels, tags, strict=True) if there]) if tags.any() else "no tag"


def _jaccard(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other) if one or other else 1.0


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
