"""`gate`: whether a model may be released now, from what the store holds, without TensorFlow.

It is the pipeline's own gate. The pipeline judged the model against what was in production when it was trained; since
then production may have changed, and so may what service.toml asks for.
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
from mlplatform.contract.comparison import Comparison, Constant, Opponent
from mlplatform.contract.criteria import Criteria
from mlplatform.contract.gate import Verdict, judge
from mlplatform.contract.opponent import choose
from mlplatform.contract.parameters import criteria_of
from mlplatform.contract.targets import Target, of_manifest
from mlplatform.data.layers import fetch_columns
from mlplatform.delivery.console import Console
from mlplatform.delivery.errors import DeliveryError, GateClosedError
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

    What is asked for are the tables [gate.METRIC] of service.toml. Exit code 4: the gate is closed.
    """
    answer = ask(find_model(store, version), store)
    text = f"{answer.said}\n  {answer.compared}"
    value = {"model": version, **answer.verdict.to_json(), "compared": answer.compared}
    if not answer.verdict.passed:
        if console.as_json:
            console.result("", value)
        raise GateClosedError(text)
    console.result(f"{text}\nnext: {hint(f'bundle {version}')}", value)


@dataclass(frozen=True)
class Answer:
    """The gate's answer: the verdict, in one line, and how the model was compared with production."""

    verdict: Verdict
    said: str
    compared: str


def ask(model: Manifest, store: Storage) -> Answer:
    """Judge a published model. Raises DeliveryError, SettingsError or StorageError."""
    target = _target(model)
    criteria = target.fitted(criteria_of(load(known_parameters()[0])))
    opponent, how = against_production(model, store, criteria)
    metrics = model.properties["metrics"]
    verdict = judge(target, metrics, criteria, opponent, _constant(model, criteria))
    if verdict.passed:
        said = f"the gate is open for model {model.id}, {target.in_words(metrics)}"
    else:
        said = f"the gate is closed for model {model.id}: {'; '.join(verdict.reasons)}"
    return Answer(verdict, said, how or f"not compared with production: {opponent.skipped or opponent.unusable}")


def against_production(model: Manifest, store: Storage, criteria: Criteria) -> tuple[Opponent, str]:
    """The comparison with production for the gate, and how it was made. Raises StorageError."""
    choice = choose(store, model.id, model.properties)
    if choice.opponent is not None or choice.production is None:
        return choice.opponent or Opponent(), ""
    live = choice.production
    judged = _judged(model, live.id, store, criteria)
    if judged is not None and judged.compared is not None:
        return judged, f"as the pipeline compared it with {live.id}, on {judged.compared.examples} test examples"
    try:
        with tempfile.TemporaryDirectory(prefix="delivery-gate-") as cache:
            here, there = (_predicted(one, store, Path(cache)) for one in (model, live))
    except (ArtifactError, MissingKeyError, KeyError) as error:
        return (
            Opponent(
                unusable=f"model {live.id} is in production, and what both predicted is not in the store: {error}; "
                "train again with the same parameters: the pipeline compares with what is in production"
            ),
            "",
        )
    # On the examples that neither has learned from: those that are in both test splits.
    _, own, other = np.intersect1d(here.ids, there.ids, return_indices=True)
    if not len(own):
        return Opponent(unusable=f"no example is in the test split of both this model and {live.id} in production"), ""
    target, truth = _target(model), here.truth[own]
    # Each is read as it was published.
    theirs = _target(live).rows(truth, there.predictions[other])
    opponent = target.compare(live.id, target.rows(truth, here.predictions[own]), theirs, criteria)
    return opponent, f"with {live.id}, on the {len(own)} examples that are in the test split of both"


@dataclass(frozen=True)
class _Predicted:
    """What a model's run predicted on its test split; arrays of (examples, ...)."""

    ids: NDArray[Any]
    truth: NDArray[Any]
    predictions: NDArray[np.float32]


def _judged(model: Manifest, live: str, store: Storage, criteria: Criteria) -> Opponent | None:
    """The comparison with this very model in production that the pipeline made, if it has all that is asked for."""
    asked = {row.name for row in criteria.judged if row.metric != "accuracy"}
    verdicts = [model.properties.get("gate") or {}]
    verdicts += [
        judged.properties for judged in manifest.list_artifacts(store, f"runs/{model.properties['run']}/judged")
    ]
    for verdict in verdicts:
        if not verdict.get("comparison") and not verdict.get("targets"):
            continue
        opponent = Opponent.from_json(verdict)
        compared = opponent.compared
        if compared is not None and compared.production == live and asked <= opponent.changed:
            return opponent
    return None


def _constant(model: Manifest, criteria: Criteria) -> Constant | None:
    """How the pipeline found the model beside always answering with the most frequent label.

    Of a model that was published before the pipeline did so, counted from its classes, by accuracy.
    """
    if criteria.asks_nothing:
        return None
    try:
        return Constant.from_json(model.properties["gate"]["constant"])
    except (KeyError, TypeError):
        pass
    classes: Mapping[str, Any] = model.properties["metrics"].get("classes", {})
    counted = {
        label: (round(figures["examples"] * (figures["recall"] or 0)), int(figures["examples"]))
        for label, figures in classes.items()
    }
    if not counted or "accuracy" not in {row.metric for row in criteria.rows}:
        return None
    label = max(counted, key=lambda name: counted[name][1])
    hits, rows = counted.pop(label)
    right, others = (sum(numbers) for numbers in zip(*counted.values(), strict=True))
    return Constant(label, Comparison(label, hits, right, rows - hits, others - right))


def _target(model: Manifest) -> Target:
    """What the model learned. Raises DeliveryError."""
    try:
        target = of_manifest(model.properties)
    except ValueError as error:
        raise DeliveryError(f"model {model.id}: {error}") from None
    if target is None:
        raise DeliveryError(f"model {model.id}: its manifest does not say what it predicts, so nothing can be judged")
    return target


def _predicted(model: Manifest, store: Storage, cache: Path) -> _Predicted:
    """Predictions and truths, verified. Raises MissingKeyError, ArtifactError, KeyError or StorageError."""
    _, evaluation = manifest.fetch(store, f"runs/{model.properties['run']}/evaluation", cache)
    columns = fetch_columns(store, str(model.properties["dataset"]), "test", ("id", "label"), cache)
    predictions = np.load(evaluation / "predictions.npy")
    return _Predicted(columns["id"], columns["label"], predictions)
