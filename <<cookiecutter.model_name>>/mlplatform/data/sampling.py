"""Which rows of requests a person should label: those that teach a model most, or a fair share."""

import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from mlplatform.contract.labels import label_text
from mlplatform.data import traffic
from mlplatform.data.traffic import Joined, Row
from mlplatform.store import manifest
from mlplatform.store.storage import Storage


@dataclass
class Chosen:
    """Rows in order, the one to label first at the beginning. left_out: rows by reason, of `rows` looked at."""

    rows: list[Row]
    looked_at: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


class NotRankedError(Exception):
    """A row cannot be ranked; the message says why, as in "rows <message>"."""


def choose(
    storage: Storage,
    service: str,
    since: datetime,
    until: datetime,
    way: str,
    count: int,
    known: Set[str] = frozenset(),
    as_base64: Set[str] = frozenset(),
) -> Chosen:
    """Rows that the live service answered between two moments (UTC) and nobody has labelled.

    way: `uncertain`, the least sure answers first; `disagreement`, where a ghost gave another label, what it was most
    sure of first; `drift`, the farthest from the train split of the model that answered; or `random`, always the same.
    known: ids that people were asked about before. as_base64: inputs of bytes. Raises EventsError, StorageError or
    ArtifactError.
    """
    labelled = traffic.request_labels(storage, service, since)
    rank = _rank(storage, service, since, until, way)
    joined = Joined()
    chosen = Chosen([], left_out=joined.left_out)

    def why_not(event: Mapping[str, Any]) -> str:
        return "that have labels" if event["id"] in labelled else ""

    def ranked() -> Iterator[tuple[float, str, Row]]:
        for rows in traffic.requests(storage, service, since, until, joined, why_not, as_base64):
            for row in rows:
                chosen.looked_at += 1
                if row.id in known:
                    joined.left_out["rows that people were asked about before"] += 1
                    continue
                try:
                    yield rank(row), _place(row.id), row
                except NotRankedError as error:
                    joined.left_out[f"rows {error}"] += 1

    # Of all rows only these are in memory.
    chosen.rows = [row for _, _, row in heapq.nsmallest(count, ranked(), key=lambda entry: entry[:2])]
    return chosen


def _rank(storage: Storage, service: str, since: datetime, until: datetime, way: str) -> Callable[[Row], float]:
    """What gives each row a number, the smallest to that which is labelled first. It may raise NotRankedError."""
    if way == "uncertain":
        return _uncertain
    if way == "disagreement":
        return _disagreement(storage, service, since, until)
    return _drift(storage) if way == "drift" else lambda row: 0.0


def _place(example_id: str) -> str:
    """Where an id stands among all, at random and always there."""
    return hashlib.sha256(example_id.encode()).hexdigest()


def _uncertain(row: Row) -> float:
    if row.predicted is None or row.score is None:
        raise NotRankedError("without a probability of the answer")
    return row.score


def _disagreement(storage: Storage, service: str, since: datetime, until: datetime) -> Callable[[Row], float]:
    ghosts = {
        event["id"]: (event.get("labels") or [], event.get("scores") or [])
        for event, _ in traffic.predictions(storage, service, since, until, "ghost")
        if event.get("status") == 200
    }

    def rank(row: Row) -> float:
        labels, scores = ghosts.get(row.request, ([], []))
        if row.predicted is None or row.number >= len(labels):
            raise NotRankedError("that no ghost answered")
        if label_text(labels[row.number]) == label_text(row.predicted):
            raise NotRankedError("of which ghost and live say the same")
        return -float(scores[row.number]) if row.number < len(scores) else 0.0

    return rank


def _drift(storage: Storage) -> Callable[[Row], float]:
    trains: dict[str, Mapping[str, Any] | None] = {}

    def rank(row: Row) -> float:
        if row.version not in trains:
            trains[row.version] = _train_inputs(storage, row.version)
        statistics = trains[row.version]
        if statistics is None:
            raise NotRankedError("whose model, or what it was made from, is not in the store")
        distances = [
            distance
            for name, value in row.inputs.items()
            if (known := statistics.get(name)) and (distance := _distance(value, known)) is not None
        ]
        if not distances:
            raise NotRankedError("without an input of numbers")
        return -max(distances)

    return rank


def _train_inputs(storage: Storage, version: str) -> Mapping[str, Any] | None:
    """Mean and deviation of each input over the train split of a model, by its name."""
    model = manifest.find(storage, f"models/{version}") if version else None
    made_from = model and manifest.find(storage, f"datasets/{model.properties.get('dataset', '')}")
    return made_from.properties["splits"]["train"]["inputs"] if made_from else None


def _distance(value: Any, known: Mapping[str, float]) -> float | None:
    """How far the mean of an input's values, or their spread, lies from the train split's, in its deviations."""
    try:
        values = np.asarray(value, np.float64)
    except (ValueError, TypeError):
        return None
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    return math.sqrt(float(np.mean(np.square(values - known["mean"])))) / (known["deviation"] or 1.0)
