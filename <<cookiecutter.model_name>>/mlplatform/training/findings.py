"""What the report on a run is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from mlplatform.config.settings import ServiceSettings
from mlplatform.contract.gate import Verdict
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
    """An example of the test split that is predicted wrongly. inputs: by name."""

    id: str
    prediction: Prediction
    inputs: Mapping[str, NDArray[Any]]


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
