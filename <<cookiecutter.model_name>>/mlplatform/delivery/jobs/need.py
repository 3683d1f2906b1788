"""Whether there is a reason to train again: new data, an old model, or predictions that are distributed otherwise."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from pathlib import PurePosixPath

import numpy as np
from pydantic import Field

from mlplatform.config.settings import Section
from mlplatform.contract import events
from mlplatform.contract.drift import SHIFTED, psi, shares
from mlplatform.contract.parameters import TrainingParameters
from mlplatform.data import catalog
from mlplatform.store.manifest import Manifest
from mlplatform.store.models import list_models
from mlplatform.store.releases import production
from mlplatform.store.storage import Storage, open_storage

# Bound the time and the traffic that a look takes: the newest segments of events, and the rows of fewer tell nothing.
SEGMENTS = 200
LEAST_ROWS = 500


class RetrainingSettings(Section, section="retraining"):
    """Section [retraining] of service.toml: when `submit --if-needed` submits a job."""

    maximum_age_days: float = Field(default=30, gt=0, description="age of the newest model beyond which one is trained")
    drift_days: float = Field(default=7, gt=0, description="days of predictions that drift is looked for in")
    maximum_drift: float = Field(
        default=SHIFTED, gt=0, description="population stability index of the predicted classes that is not drift yet"
    )


@dataclass
class Need:
    """Reasons to train now, and what speaks against it, as clauses."""

    reasons: list[str] = field(default_factory=list)
    against: list[str] = field(default_factory=list)


def needed(
    store: Storage, service: str, parameters: TrainingParameters, settings: RetrainingSettings, now: datetime
) -> Need:
    """Look at the newest model, the source, and the predictions of the model in production.

    Raises StorageError, ArtifactError or EventsError.
    """
    models = list_models(store)
    if not models:
        return Need(["there is no model yet"])
    need, newest = Need(), models[-1]
    _new_data(need, store, parameters.source, newest)
    age = (now - datetime.fromisoformat(newest.created_at)).total_seconds() / 86400
    told = f"the newest model, {newest.id}, is {age:.1f} days old"
    if age > settings.maximum_age_days:
        need.reasons.append(f"{told}, more than {settings.maximum_age_days:g}")
    else:
        need.against.append(told)
    live = production(store)
    model = next((model for model in models if model.id == live), None)
    if model is None:
        need.against.append("no model is in production, so there is no drift")
    else:
        _drift(need, store, service, model, settings, now)
    return need


def _new_data(need: Need, store: Storage, url: str, newest: Manifest) -> None:
    """Compare the files of the source with those that the newest model's dataset was gathered from."""
    if not url:
        need.against.append("the data is bundled with the model")
        return
    known = _gathered(store, str(newest.properties.get("dataset")))
    if not known:
        need.reasons.append(f"the store does not say which files {newest.id} was trained on")
        return
    endings = tuple({PurePosixPath(key).suffix for key in known.values()})
    new = [key for key, identity in open_storage(url).identities("", endings) if identity not in known]
    if new:
        need.reasons.append(f"{url} holds {len(new)} files that {newest.id} was not trained on, such as {new[0]}")
    else:
        need.against.append(f"{url} holds nothing that {newest.id} was not trained on")


def _gathered(store: Storage, dataset: str) -> dict[str, str]:
    """Keys, by identity, of the files that a dataset was gathered from; empty if the pipeline did not gather it."""
    for key in catalog.gathered(store, {dataset}):
        files = json.loads(store.read(f"{key.rpartition('/')[0]}/files.json"))
        return {str(file["identity"]): str(file["key"]) for file in files}
    return {}


def _drift(
    need: Need, store: Storage, service: str, model: Manifest, settings: RetrainingSettings, now: datetime
) -> None:
    expected = (model.properties.get("baseline") or {}).get("classes") or {}
    if not expected:
        need.against.append(f"{model.id} predicts no classes, so drift is not judged")
        return
    since = now - timedelta(days=settings.drift_days)
    counts = Counter(_predicted(store, service, model.id, since, now))
    rows = sum(counts[label] for label in expected)
    if rows < LEAST_ROWS:
        need.against.append(f"{rows} predictions in {settings.drift_days:g} days are too few to judge drift by")
        return
    value = psi(
        shares(np.array([counts[label] for label in expected])), np.array([float(share) for share in expected.values()])
    )
    told = f"the population stability index of {rows} predicted classes is {value:.3f}"
    if value > settings.maximum_drift:
        need.reasons.append(f"{told}, more than {settings.maximum_drift:g}")
    else:
        need.against.append(told)


def _predicted(store: Storage, service: str, version: str, since: datetime, until: datetime) -> Iterator[str]:
    """The labels that a model predicted live, of the newest segments of events."""
    keys = sorted(events.keys(store, service, since, until), reverse=True)
    for key in islice((key for key in keys if "-live-" in key), SEGMENTS):
        segment = events.read(store, key)
        if segment.process.version != version:
            continue
        for event in segment.events:
            if event.get("kind") == "prediction" and float(event.get("at", 0)) >= since.timestamp():
                yield from (label for label in event.get("labels", ()) if label is not None)
