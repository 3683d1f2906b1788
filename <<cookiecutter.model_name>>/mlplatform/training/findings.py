"""What the report on a run is made from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from mlplatform.config.settings import ServiceSettings
from mlplatform.contract.gate import Verdict
from mlplatform.contract.targets import Target
from mlplatform.data.dataset import Schema
from mlplatform.store.manifest import Manifest


@dataclass(frozen=True)
class Prediction:
    """What a model predicts for a row of the test split, and what is true, each with a note."""

    row: int
    predicted: str
    note: str
    truth: str
    note_of_truth: str


@dataclass(frozen=True)
class Mistake:
    """An example of the test split that is predicted wrongly. inputs: by name. target: of several the one."""

    id: str
    prediction: Prediction
    inputs: Mapping[str, NDArray[Any]]
    target: str = ""


@dataclass(frozen=True)
class Compared:
    """The model in production, measured on the same test split.

    test: rows of the target. may_have_learned: part of this test split may have been in its training data.
    """

    version: str
    created_at: str
    metrics: Mapping[str, Any]
    test: Any
    may_have_learned: bool


@dataclass(frozen=True)
class Findings:
    """The contents of the report.

    compared: set if the verdict holds a comparison. test: rows of the target, of the test split. validation: of the
    validation split, where a threshold is chosen by it.
    """

    service: ServiceSettings
    schema: Schema
    run: str
    trained: Manifest
    dataset: Manifest
    history: Sequence[Mapping[str, float]]
    metrics: Mapping[str, Any]
    mistakes: Sequence[Mistake]
    verdict: Verdict
    compared: Compared | None
    test: Any
    validation: Any | None = None

    def figures(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """Metrics of these names, each with its interval, if that is known, and production's."""
        there = self.compared.metrics if self.compared else {}
        return [
            {
                "name": name.replace("_", " "),
                "value": self.metrics[name],
                "interval": self.metrics["intervals"].get(name),
                "production": there.get(name),
            }
            for name in names
        ]

    @property
    def paired(self) -> dict[str, Any] | None:
        """Row by row against production, and how each metric has changed; None without a comparison."""
        opponent = self.verdict.opponent
        if opponent.comparison is None or self.compared is None:
            return None
        return {**opponent.comparison.to_json(), "changes": list(opponent.changes.values())}

    def of_targets(self) -> "list[Findings]":
        """What each of several targets has to show."""
        return [self._of(place, part) for place, part in enumerate(self.schema.target.parts)]

    def _of(self, place: int, part: Target) -> "Findings":
        name, metrics, verdict, compared = part.name, self.metrics, self.verdict, self.compared
        splits = {
            split: {**about, **about.get("targets", {}).get(name, {})}
            for split, about in self.dataset.properties["splits"].items()
        }
        of_all = {key: metrics[key] for key in ("export_difference", "inference_ms", "bytes") if key in metrics}
        return replace(
            self,
            schema=replace(self.schema, target=part),
            dataset=replace(self.dataset, properties={**self.dataset.properties, "splits": splits}),
            metrics={**metrics["targets"][name], **of_all},
            mistakes=[mistake for mistake in self.mistakes if mistake.target == name],
            verdict=replace(
                verdict,
                criteria=verdict.criteria.of(name),
                opponent=verdict.opponent.of(name),
                constant=verdict.constant.targets.get(name) if verdict.constant else None,
            ),
            compared=compared
            and replace(compared, metrics=compared.metrics["targets"][name], test=compared.test.of[place]),
            test=self.test.of[place],
            validation=self.validation.of[place] if self.validation is not None else None,
        )
