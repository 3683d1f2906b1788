"""Several targets of one network, which are one to everything that trains, judges and serves it.

Their truths stand beside each other in one array (n, ...), as do their predictions, in the order of the targets; each
target handles its own columns. Metrics, reasons and messages about a target carry its name.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlplatform.config.settings import SettingsError
from mlplatform.contract.comparison import Constant, Opponent
from mlplatform.contract.criteria import BOUNDS, SETTINGS, Criteria
from mlplatform.contract.metrics import METRICS, SAME
from mlplatform.contract.targets.base import Agreement, Answers, Array, Objects, Target
from mlplatform.contract.targets.kinds import of_json

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# Keys of a table in [gate], so no target can be told from them.
TAKEN = {*METRICS, *SAME, *BOUNDS, *SETTINGS}


@dataclass(frozen=True)
class SeveralRows:
    """Rows of each target, in their order."""

    of: tuple[Any, ...]

    def __len__(self) -> int:
        return len(self.of[0])


@dataclass(frozen=True)
class Several(Target):
    """`targets`, at least two. The network's outputs, and the properties of a record, have their names."""

    targets: tuple[Target, ...]

    kind = "several"
    predictions = "predictions"
    one = "a prediction"
    invalid = "no predictions"
    label_schema: ClassVar[Mapping[str, Any]] = {"type": "object"}
    feedback_schema: ClassVar[Mapping[str, Any]] = {"type": ["object"]}

    def __init__(self, targets: Sequence[Target]) -> None:
        object.__setattr__(self, "targets", tuple(targets))
        object.__setattr__(self, "name", " and ".join(str(target.name) for target in targets))

    # What it is.

    @property
    def parts(self) -> tuple[Target, ...]:
        """See the base."""
        return self.targets

    @property
    def output(self) -> str:
        """Of all outputs together."""
        return self.name

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """See the base: each by the name of its target."""
        return {part.name: part.row_shape for part in self.targets}

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Of all predictions beside each other."""
        return (sum(_size(part.row_shape) for part in self.targets),)

    @property
    def has_threshold(self) -> bool:
        """See the base."""
        return any(part.has_threshold for part in self.targets)

    def decided(self, truth: Array, predictions: NDArray[np.float32]) -> "Several":
        """See the base."""
        return Several([part.decided(*both) for part, *both in self._each(truth, predictions)])

    def check(self) -> None:
        """Raises SettingsError if a target cannot be learned, or two of them, or a table of the gate, have one name."""
        seen: set[str] = set()
        for part in self.targets:
            name = part.name
            if not isinstance(name, str) or not NAME.fullmatch(name) or name == "id" or name in TAKEN:
                raise SettingsError(
                    f"model.TARGETS: of several targets none can be called {name!r}; rename it, with the property of "
                    "model.RECORD and the network's output: letters from a to z, digits and _, a letter first, and "
                    "neither 'id' nor a metric"
                )
            if name.lower() in seen:
                raise SettingsError(f"model.TARGETS: two targets are called {name!r}; rename one")
            if part.alone:
                raise SettingsError(
                    f"model.TARGETS: {name!r}, of kind {part.kind!r}, cannot be one of several; leave the others out"
                )
            seen.add(name.lower())
            part.check()

    def to_json(self) -> dict[str, Any]:
        """See the base."""
        return {"kind": self.kind, "targets": [part.to_json() for part in self.targets]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Several":
        """See the base."""
        return cls([of_json(part) for part in value["targets"]])

    def in_words(self, metrics: Mapping[str, Any]) -> str:
        """See the base."""
        return "; ".join(f"{part.name}: {part.in_words(of)}" for part, of in self._with(metrics))

    def said(self, metrics: Mapping[str, Any]) -> str:
        """See the base."""
        return "; ".join(f"{part.name}: {part.said(of)}" for part, of in self._with(metrics))

    # The truth.

    def given(self, columns: Sequence[Sequence[object]]) -> list[dict[str, object]]:
        """See the base: by name."""
        names = [part.name for part in self.targets]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    def text(self, value: object) -> str:
        """See the base: a JSON array of the texts of all targets. Labels that a target does not have are invalid."""
        if not isinstance(value, Mapping):
            raise ValueError("is no object with the truth of each target")
        texts = []
        for part in self.targets:
            text = part.text(value.get(part.name))
            if not part.encode([text.encode()], {})[1].all():
                raise ValueError(f"{part.name}: {text!r} is none of its labels in model.TARGETS")
            texts.append(text)
        return json.dumps(texts, ensure_ascii=False)

    def texts(self, values: Sequence[Any]) -> tuple[list[bytes], NDArray[np.bool_]]:
        """See the base; target by target, which takes a fraction of the time."""
        valid = np.ones(len(values), bool)
        columns: list[list[str]] = []
        for part in self.targets:
            texts, fits = part.texts([value[part.name] for value in values])
            known = np.flatnonzero(fits)
            fits[known] = part.encode([texts[row] for row in known], {})[1]
            columns.append([text.decode() for text in texts])
            valid &= fits
        rows = zip(valid.tolist(), zip(*columns, strict=True), strict=True)
        return [json.dumps(row, ensure_ascii=False).encode() if fits else b"" for fits, row in rows], valid

    def encode(self, texts: Sequence[bytes], record: Mapping[str, Any]) -> tuple[Array, NDArray[np.bool_]]:
        """The truths of all targets beside each other, (n, ...), float32: a position among labels, a value, or 0 and 1
        for each tag.
        """
        valid = np.ones(len(texts), bool)
        columns = [*zip(*map(json.loads, texts), strict=True)] or [()] * len(self.targets)
        truths = []
        for part, column in zip(self.targets, columns, strict=True):
            truth, fits = part.encode([text.encode() for text in column], record)
            truths.append(truth.reshape(len(texts), _size(truth.shape[1:])).astype(np.float32))
            valid &= fits
        return np.concatenate(truths, axis=1), valid

    def identity(self) -> Any:
        """See the base."""
        return [[part.kind, part.name, part.identity()] for part in self.targets]

    def text_identity(self) -> list[str]:
        """See the base; labels as well, as `text` lets no others pass."""
        return [json.dumps(part, sort_keys=True) for part in self.identity()]

    def described(self, truth: Array) -> dict[str, Any]:
        """`targets`: by name what each says; `classes`: by <target>.<label> the examples."""
        of = {part.name: part.described(column) for part, column in self._each(truth.reshape(-1, self._truth_size))}
        classes = {
            f"{name}.{label}": count for name, about in of.items() for label, count in about.get("classes", {}).items()
        }
        return {"targets": of, **({"classes": classes} if classes else {})}

    def decode(self, truth: Any) -> Any:
        """See the base: by name."""
        return {part.name: part.decode(column[0]) for part, column in self._each(np.asarray(truth)[None])}

    def shown(self, truth: Any) -> str:
        """See the base."""
        return ", ".join(f"{part.name} {part.shown(column[0])}" for part, column in self._each(np.asarray(truth)[None]))

    def in_record(self, known: str | float) -> dict[str, Any]:
        """See the base; without those that are not known."""
        return {part.name: part.of_record(truth) for part, truth in self._truths(known) if truth is not None}

    def feedback(self, value: object) -> str:
        """See the base: a JSON object, null where the truth of a target is not known."""
        if not isinstance(value, Mapping) or not value:
            raise ValueError(f"expected an object with the truth of {self._listed}, or of some of them")
        others = [name for name in value if name not in self.outputs]
        if others:
            raise ValueError(f"it names {others[0]!r}; the model predicts {self._listed}")
        known = {}
        for part in self.targets:
            given = value.get(part.name)
            try:
                known[part.name] = None if given is None else part.feedback(given)
            except ValueError as error:
                raise ValueError(f"of {part.name!r}: {error}") from None
        return json.dumps(known, ensure_ascii=False)

    def known(self, value: object) -> str | None:
        """See the base; what another version's callers sent counts by name."""
        try:
            of = json.loads(value) if isinstance(value, str) else value
        except ValueError:
            return None
        if not isinstance(of, Mapping):
            return None
        known = {part.name: part.known(of[part.name]) for part in self.targets if of.get(part.name) is not None}
        return json.dumps(known, ensure_ascii=False) if any(truth is not None for truth in known.values()) else None

    def truths_of(self, part: Target, truth: Objects) -> Objects:
        """Of truths of `known` (n,) those of one target, None where it is not known."""
        found = np.full(len(truth), None, object)
        for row, known in enumerate(truth):
            if known is not None:
                value = json.loads(known).get(part.name)
                found[row] = None if value is None else part.known(value)
        return found

    # The network.

    def for_loss(self, truth: Array) -> dict[str, Array]:
        """See the base: by name."""
        return {part.name: column for part, column in self._each(truth)}

    def joined(self, output: Any) -> NDArray[np.float32]:
        """See the base: of outputs by name (n, *row_shape) one array (n, ...)."""
        given = [np.asarray(output[part.name], np.float32) for part in self.targets]
        return np.concatenate([array.reshape(len(array), -1) for array in given], axis=1)

    @property
    def compiling(self) -> str:
        """See the base."""
        losses = {part.name: part.loss for part in self.targets}
        metrics = {part.name: part.metric for part in self.targets}
        return f"loss={losses!r}, metrics={metrics!r}"

    def output_fault(self, shape: Any) -> str:
        """See the base. shape: of each output by its name."""
        if not isinstance(shape, Mapping) or {*shape} != {*self.outputs}:
            return f"a dict with an output for each of model.TARGETS, outputs={{{self._listed}: ...}}"
        faults = {part.name: part.output_fault(shape[part.name]) for part in self.targets}
        return "; ".join(f"of {name!r} {fault}" for name, fault in faults.items() if fault)

    def fits_loss(self, name: str) -> bool:
        """See the base: there is one for each target."""
        return False

    def prediction_fault(self, served: NDArray[np.float32]) -> str:
        """See the base."""
        faults = {part.name: part.prediction_fault(column) for part, column in self._each_predicted(served)}
        return "; ".join(f"output {name!r}: {fault}" for name, fault in faults.items() if fault)

    def difference(self, found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
        """That of the target where it is largest."""
        return float(np.max([part.difference(*both) for part, *both in self._each_predicted(found, expected)]))

    def agreeing(self, found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
        """That of the target where it is smallest."""
        return float(min(part.agreeing(*both) for part, *both in self._each_predicted(found, expected)))

    # Rows whose truth is known.

    def rows(self, truth: Array, predictions: NDArray[np.float32]) -> SeveralRows:
        """See the base."""
        return SeveralRows(tuple(part.rows(*both) for part, *both in self._each(truth, predictions)))

    def metrics(self, rows: SeveralRows) -> dict[str, Any]:
        """`targets`: by name those of each; `invalid`: of the target that has most."""
        of = {part.name: part.metrics(own) for part, own in zip(self.targets, rows.of, strict=True)}
        return {
            "examples": len(rows),
            "invalid": max(metrics["invalid"] for metrics in of.values()),
            "targets": of,
        }

    # The gate.

    def fitted(self, criteria: Criteria) -> Criteria:
        """See the base: each target has tables of its own, or its default."""
        faults = [
            f"[{row.table}]: there are several targets; say of which, {self._tables(row.metric)}"
            for row in criteria.rows
            if not row.target and not criteria.by_default
        ]
        faults += [
            f"[{row.table}]: model.TARGETS has no {row.target!r}; it has {self._listed}"
            for row in criteria.rows
            if row.target and row.target not in self.outputs
        ]
        faults += [
            f"gate.absent_labels: {label!r} must begin with the name of its target, one of {self._listed}, and a dot"
            for label in criteria.absent_labels
            if label.partition(".")[0] not in self.outputs
        ]
        rows = []
        for part in self.targets if not faults else ():
            try:
                own = part.fitted(criteria.of(part.name))
            except SettingsError as error:
                faults += str(error).splitlines()
            else:
                rows += [replace(row, target=part.name) for row in own.rows]
        if faults:
            raise SettingsError("\n".join(faults))
        return replace(criteria, rows=tuple(rows))

    def own(self, criteria: Criteria) -> Criteria:
        """See the base."""
        rows = [
            replace(row, target=part.name) for part in self.targets for row in part.own(criteria.of(part.name)).rows
        ]
        return replace(criteria, rows=tuple(rows))

    def compare(self, production: str, model: SeveralRows, other: SeveralRows, criteria: Criteria) -> Opponent:
        """See the base: target by target."""
        of = {
            part.name: part.compare(production, here, there, criteria.of(part.name))
            for part, here, there in zip(self.targets, model.of, other.of, strict=True)
        }
        return Opponent(targets=of)

    def against_constant(self, model: SeveralRows, criteria: Criteria, learned: Array | None = None) -> Constant | None:
        """See the base: target by target."""
        truths = [None for _ in self.targets] if learned is None else [column for _, column in self._each(learned)]
        found = {
            part.name: part.against_constant(rows, criteria.of(part.name), truth)
            for part, rows, truth in zip(self.targets, model.of, truths, strict=True)
        }
        constants = {name: constant for name, constant in found.items() if constant is not None}
        return Constant("", None, targets=constants) if constants else None

    def why_other(self, there: Target) -> str:
        """See the base."""
        if [(part.kind, part.name) for part in self.targets] != [(part.kind, part.name) for part in there.parts]:
            return "its targets are others, or in another order"
        reasons = {part.name: part.why_other(other) for part, other in zip(self.targets, there.parts, strict=True)}
        return "; ".join(f"of {name!r} {reason}" for name, reason in reasons.items() if reason)

    # Serving.

    def noted(self, output: Array) -> tuple[list[str], Array]:
        """Labels: by target its label, or null, and its score, as a JSON object. Scores: those of the first target."""
        columns: list[list[Any]] = []
        scores: list[Array] = []
        for part, column in self._each_predicted(output):
            labels, values = part.noted(column)
            scores.append(values)
            finite = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0).tolist()
            columns.append([*zip(labels or [None] * len(finite), finite, strict=True)])
        names = [part.name for part in self.targets]
        rows = zip(*columns, strict=True)
        return [json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) for row in rows], scores[0]

    def label_values(self, labels: list[str]) -> Any:
        """See the base: by name, of the targets that have labels."""
        said = [json.loads(label) for label in labels]
        found: list[dict[str, Any]] = [{} for _ in said]
        for part in self.targets:
            own = [of[part.name][0] for of in said]
            for row, label in zip(found, part.label_values(own) if None not in own else (), strict=False):
                row[part.name] = label
        return found

    def same(self, one: str, other: str) -> bool:
        """See the base: of the targets that have labels."""
        return bool(self.label_values([one]) == self.label_values([other]))

    def answers_of(self, part: Target, answers: Answers) -> Answers:
        """What events note of one target; no label and NaN where they note something else."""
        labels, scores = np.full(len(answers.labels), None, object), np.full(len(answers.labels), np.nan)
        for row, text in enumerate(answers.labels):
            try:
                labels[row], scores[row] = json.loads(text)[part.name]
            except (KeyError, TypeError, ValueError):
                continue
        return Answers(labels, scores)

    def signals(self, output: Array) -> dict[str, Array]:
        """Each target is watched by itself."""
        return {}

    def edges(self, baseline: Mapping[str, Any]) -> dict[str, tuple[Array | None, Sequence[float]]]:
        """Each target is watched by itself."""
        return {}

    def baseline(self, predictions: NDArray[np.float32]) -> dict[str, Any]:
        """`targets`: by name what each says."""
        return {"targets": {part.name: part.baseline(column) for part, column in self._each_predicted(predictions)}}

    # Ghosts: each target is judged by itself.

    def observed(self, truth: Objects, answers: Sequence[Answers]) -> list[Any]:
        """See the base."""
        of = [
            part.observed(self.truths_of(part, truth), [self.answers_of(part, said) for said in answers])
            for part in self.targets
        ]
        return [SeveralRows(rows) for rows in zip(*of, strict=True)]

    def unlike(self, live: Target) -> str:
        """See the base."""
        return super().unlike(live) or self.why_other(live)

    def agreement(self, live: Answers, ghost: Answers, truth: Objects) -> Agreement | None:
        """See the base."""
        return None

    def all_the_same(self, rows: Any) -> str:
        """See the base."""
        return ""

    # The columns of each target.

    @cached_property
    def _truth_shapes(self) -> tuple[tuple[tuple[int, ...], Any], ...]:
        """Shape of one truth of each target, and its dtype."""
        empty = [part.encode([], {})[0] for part in self.targets]
        return tuple((truth.shape[1:], truth.dtype) for truth in empty)

    @property
    def _truth_size(self) -> int:
        return sum(_size(shape) for shape, _ in self._truth_shapes)

    @property
    def _listed(self) -> str:
        return ", ".join(repr(part.name) for part in self.targets)

    def _tables(self, metric: str) -> str:
        fitting = [part.name for part in self.targets if part.kind in METRICS[metric.partition(".")[0]].kinds]
        return " or ".join(f"[gate.{name}.{metric}]" for name in fitting or self.outputs)

    def _with(self, metrics: Mapping[str, Any]) -> Iterator[tuple[Target, Mapping[str, Any]]]:
        for part in self.targets:
            yield part, metrics["targets"][part.name]

    def _truths(self, known: str | float) -> Iterator[tuple[Target, str | float | None]]:
        of = json.loads(str(known))
        for part in self.targets:
            yield part, of.get(part.name)

    def _each(self, truth: Array, *predictions: NDArray[np.float32]) -> Iterator[tuple[Any, ...]]:
        """Each target with its truth (n, ...) and its predictions (n, *row_shape)."""
        at = 0
        predicted = self._each_predicted(*predictions)
        for part, (shape, dtype), (_, *own) in zip(self.targets, self._truth_shapes, predicted, strict=True):
            columns = truth[:, at : at + _size(shape)]
            at += _size(shape)
            yield part, columns.reshape(len(truth), *shape).astype(dtype), *own

    def _each_predicted(self, *predictions: NDArray[np.float32]) -> Iterator[tuple[Any, ...]]:
        at = 0
        for part in self.targets:
            size = _size(part.row_shape)
            yield part, *(array[:, at : at + size].reshape(len(array), *part.row_shape) for array in predictions)
            at += size


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))
