"""`gate`: whether a model may be released now, from what the store holds, without TensorFlow.

It is the pipeline's own gate. The pipeline judged the model against what was in production when it was trained; since
then production may have changed, and so may the thresholds in service.toml.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from mlplatform.config.hints import hint
from mlplatform.config.settings import load
from mlplatform.contract.comparison import Comparison
from mlplatform.contract.gate import Opponent, Thresholds, compare, judge
from mlplatform.contract.opponent import choose
from mlplatform.delivery.console import Console
from mlplatform.delivery.errors import GateClosedError
from mlplatform.delivery.images.commands import find_model
from mlplatform.delivery.jobs.parameters import known_parameters
from mlplatform.delivery.options import console_option, store_option
from mlplatform.store import manifest
from mlplatform.store.manifest import ArtifactError, Manifest
from mlplatform.store.storage import MissingKeyError, Storage


@click.command()
@click.argument("version")
@store_option
@console_option
def gate(version: str, store: Storage, console: Console) -> None:
    """Judge whether model VERSION may be released: whether it is good enough, and no worse than production.

    minimum_accuracy and maximum_regression are those of service.toml, or TRAINING_... of the environment. Exit code 4:
    the gate is closed.
    """
    model = find_model(store, version)
    parameters = load(known_parameters()[0])
    thresholds = Thresholds(parameters.minimum_accuracy, parameters.maximum_regression)
    opponent, how = against_production(model, store)
    verdict = judge(model.properties["metrics"], thresholds, opponent)
    compared = how or f"not compared with production: {opponent.skipped or opponent.unusable}"
    value = {"model": version, **verdict.to_json(), "compared": compared}
    if not verdict.passed:
        if console.as_json:
            console.result("", value)
        raise GateClosedError(f"the gate is closed for model {version}: {'; '.join(verdict.reasons)}\n  {compared}")
    accuracy = model.properties["metrics"]["accuracy"]
    text = f"the gate is open for model {version}, accuracy {accuracy:.4f}\n  {compared}"
    console.result(f"{text}\nnext: {hint(f'bundle {version}')}", value)


def against_production(model: Manifest, store: Storage) -> tuple[Opponent, str]:
    """The comparison with production for the gate, and how it was made. Raises StorageError."""
    choice = choose(store, model.id, model.properties)
    if choice.opponent is not None or choice.production is None:
        return choice.opponent or Opponent(), ""
    live = choice.production
    judged = _judged(model, live.id, store)
    if judged is not None:
        return Opponent(judged), f"as the pipeline compared it with {live.id}, on {judged.examples} test examples"
    try:
        with tempfile.TemporaryDirectory(prefix="delivery-gate-") as cache:
            comparison = _compare(_predicted(model, store, Path(cache)), _predicted(live, store, Path(cache)), live.id)
    except (ArtifactError, MissingKeyError, KeyError) as error:
        return (
            Opponent(
                unusable=f"model {live.id} is in production, and what both predicted is not in the store: {error}; "
                "train again with the same parameters: the pipeline compares with what is in production"
            ),
            "",
        )
    if not comparison.examples:
        return Opponent(unusable=f"no example is in the test split of both this model and {live.id} in production"), ""
    return Opponent(
        comparison
    ), f"with {live.id}, on the {comparison.examples} examples that are in the test split of both"


@dataclass(frozen=True)
class _Predicted:
    """What a model's run predicted on its test split; arrays of (examples,)."""

    ids: NDArray[np.bytes_]
    labels: NDArray[np.int32]
    classes: NDArray[np.int64]


def _judged(model: Manifest, live: str, store: Storage) -> Comparison | None:
    """The comparison with this very model in production that the pipeline made, or None."""
    verdicts = [model.properties.get("gate") or {}]
    verdicts += [
        judged.properties for judged in manifest.list_artifacts(store, f"runs/{model.properties['run']}/judged")
    ]
    for verdict in verdicts:
        counts: Mapping[str, Any] = verdict.get("comparison") or {}
        if counts.get("production") == live:
            names = ("both", "only_model", "only_production", "neither")
            return Comparison(live, *(int(counts[name]) for name in names))
    return None


def _predicted(model: Manifest, store: Storage, cache: Path) -> _Predicted:
    """Predictions and labels, verified. Raises MissingKeyError, ArtifactError, KeyError or StorageError."""
    _, evaluation = manifest.fetch(store, f"runs/{model.properties['run']}/evaluation", cache)
    dataset = f"datasets/{model.properties['dataset']}"
    described = manifest.read(store, dataset)
    columns = {
        name: [
            np.load(manifest.fetch_file(store, dataset, described, path, cache))
            for path in sorted(described.files)
            if path.startswith("test/") and path.endswith(f".{name}.npy")
        ]
        for name in ("id", "label")
    }
    predictions = np.load(evaluation / "predictions.npy")
    return _Predicted(np.concatenate(columns["id"]), np.concatenate(columns["label"]), predictions.argmax(axis=1))


def _compare(model: _Predicted, live: _Predicted, version: str) -> Comparison:
    """Both on the examples that neither has learned from: those that are in both test splits."""
    _, here, there = np.intersect1d(model.ids, live.ids, return_indices=True)
    return compare(version, model.labels[here], model.classes[here], live.classes[there])
