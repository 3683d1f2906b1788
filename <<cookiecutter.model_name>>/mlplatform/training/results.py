"""What a run wrote to the store, for the steps after training."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.targets import Target
from mlplatform.data.dataset import Split
from mlplatform.store import manifest
from mlplatform.store.manifest import Manifest
from mlplatform.training.task import Context

VALIDATION = "validation_predictions.npy"
TARGET = "target.json"


@dataclass(frozen=True)
class Results:
    """The results of one run on one dataset version. Each is verified when it is first read."""

    context: Context
    dataset: str
    run_id: str
    _fetched: dict[str, tuple[Manifest, Path]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def prefix(self) -> str:
        """Where the run's results lie in the store."""
        return f"runs/{self.run_id}"

    def prepared(self) -> Manifest:
        """The dataset's manifest."""
        return manifest.read(self.context.storage, f"datasets/{self.dataset}")

    def split(self, name: str) -> Split:
        """A split of the dataset with all inputs of the model."""
        _, content = self._fetch(f"datasets/{self.dataset}")
        return Split.of(content, name, self.context.schema.inputs)

    def truth(self, split: str) -> NDArray[Any]:
        """(examples of a split, ...): what is true, as the target encodes it."""
        _, content = self._fetch(f"datasets/{self.dataset}")
        rows = Split(content, split, [])
        return rows.column("label", np.arange(len(rows)))

    def trained(self) -> tuple[Manifest, Path]:
        """What Train published: `saved_model/`, `predictions.npy`, `history.json`."""
        return self._fetch(f"{self.prefix}/training")

    def properties(self) -> Mapping[str, Any]:
        """What the manifest of the trained model says: signature, targets, parameters. Its files are not read."""
        return manifest.read(self.context.storage, f"{self.prefix}/training").properties

    def history(self) -> list[dict[str, float]]:
        """Per epoch the metrics by name."""
        history: list[dict[str, float]] = json.loads((self.trained()[1] / "history.json").read_bytes())
        return history

    def predictions(self) -> NDArray[np.float32]:
        """(examples of the test split, ...): what the exported model predicts."""
        predictions: NDArray[np.float32] = np.load(self._fetch(f"{self.prefix}/evaluation")[1] / "predictions.npy")
        return predictions

    @property
    def target(self) -> Target:
        """What was learned, with what Evaluate decided about it; runs of before have decided nothing."""
        path = self._fetch(f"{self.prefix}/evaluation")[1] / TARGET
        if not path.exists():
            return self.context.schema.target
        return type(self.context.schema.target).from_json(json.loads(path.read_bytes()))

    def test_rows(self) -> Any:
        """What the exported model predicts for the test split, and what is true, as rows of the target."""
        return self.target.rows(self.truth("test"), self.predictions())

    def validation_rows(self) -> Any | None:
        """The same for the validation split, which Evaluate keeps where a threshold is chosen by it."""
        path = self._fetch(f"{self.prefix}/evaluation")[1] / VALIDATION
        if not path.exists():
            return None
        return self.target.rows(self.truth("validation"), np.load(path))

    def metrics(self) -> dict[str, Any]:
        """What Evaluate measured."""
        metrics: dict[str, Any] = json.loads(
            (self._fetch(f"{self.prefix}/evaluation")[1] / "metrics.json").read_bytes()
        )
        return metrics

    def _fetch(self, prefix: str) -> tuple[Manifest, Path]:
        if prefix not in self._fetched:
            self._fetched[prefix] = manifest.fetch(self.context.storage, prefix, self.context.work)
        return self._fetched[prefix]


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, without NaN, which JSON does not have."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
