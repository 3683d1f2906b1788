"""The events of the live service and the ghost, read from the store and joined by request id."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlplatform.config.hints import hint
from mlplatform.contract import events, targets
from mlplatform.contract.events import EVENT_COUNTERS, MIRROR_COUNTERS, Segment
from mlplatform.contract.labels import label_text
from mlplatform.contract.targets import Classes, Number, Target
from mlplatform.contract.targets.base import Answers, Objects
from mlplatform.contract.targets.several import Several
from mlplatform.store import manifest
from mlplatform.store.manifest import ArtifactError
from mlplatform.store.storage import MissingKeyError, Storage

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]


class NothingObservedError(Exception):
    """There are no events to report on; the message says what is missing and what to do."""


class Prediction(NamedTuple):
    """One answer; see mlplatform/contract/events.py."""

    at: float
    status: int
    ms: float
    labels: tuple[str | None, ...]
    scores: tuple[float, ...]
    mirrored: bool


class Usage(NamedTuple):
    """What one host used over some seconds: CPU seconds, bytes of memory, requests answered.

    left_out: CPU seconds among them that a live service would not have used.
    """

    host: str
    at: float
    seconds: float
    cpu_seconds: float
    memory_bytes: float
    requests: int
    left_out: float = 0.0


@dataclass
class Side:
    """All events of one role with one model version.

    requests: all its answers in the period, while `predictions` may be a sample. repeated: ids that occurred more than
    once, whose answers cannot be matched.
    """

    role: str
    version: str
    requests: int = 0
    errors: int = 0
    mirrored: int = 0
    last: float = 0.0
    predictions: dict[str, Prediction] = field(default_factory=dict)
    repeated: set[str] = field(default_factory=set)
    usage: list[Usage] = field(default_factory=list)
    processes: int = 0
    killed: int = 0
    counters: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys([*EVENT_COUNTERS, *(f"mirror_{name}" for name in MIRROR_COUNTERS)], 0)
    )

    @property
    def lost_events(self) -> int:
        """Events that were recorded and never reached the store."""
        return max(0, self.counters["recorded"] - self.counters["written"])


@dataclass(frozen=True)
class Pairs:
    """The answers of both sides to the same requests.

    Per request, arrays of (requests,): live_ms, ghost_ms, live_status, ghost_status. Per row that both predicted: live,
    ghost, and truth (rows,), as the target has it, None where it is not known.
    """

    live_ms: Floats
    ghost_ms: Floats
    live_status: Whole
    ghost_status: Whole
    live: Answers
    ghost: Answers
    truth: Objects

    @property
    def requests(self) -> int:
        """Requests that both answered."""
        return len(self.live_ms)


@dataclass(frozen=True)
class Alone:
    """All answers of the ghost: per request (requests,): ms, status; per row: what it said, and truth (rows,)."""

    ms: Floats
    status: Whole
    ghost: Answers
    truth: Objects


@dataclass(frozen=True)
class Observed:
    """Everything that the report is made from. live: None without live events. sampled: share of the requests that are
    kept one by one. target: the ghost's, by its manifest, or if that says none `guessed` by its answers. unlike: why
    the live model's answers are of another kind, so that only times and errors are compared; else empty. labels: ids
    with a known truth. unmatched: those whose number of truths differs from their rows'.
    """

    service: str
    since: datetime
    until: datetime
    live: Side | None
    ghost: Side
    other_versions: tuple[str, ...]
    pairs: Pairs
    alone: Alone
    sampled: float
    target: Target
    guessed: bool
    unlike: str
    labels: int
    unmatched: int
    segments: int
    damaged: int

    @cached_property
    def of_targets(self) -> "Mapping[str, Observed]":
        """Of several targets by name what is observed of each; else empty."""
        several = self.target
        if not isinstance(several, Several):
            return {}
        pairs, alone = self.pairs, self.alone
        return {
            part.name: replace(
                self,
                target=part,
                pairs=replace(
                    pairs,
                    live=several.answers_of(part, pairs.live),
                    ghost=several.answers_of(part, pairs.ghost),
                    truth=several.truths_of(part, pairs.truth),
                ),
                alone=replace(
                    alone, ghost=several.answers_of(part, alone.ghost), truth=several.truths_of(part, alone.truth)
                ),
            )
            for part in several.parts
        }


class Collector:
    """Takes segments one after the other, in bounded memory: beyond `most` requests of a side every second id is
    dropped, by its hash, so that both sides drop the same ones.
    """

    def __init__(self, since: datetime, until: datetime, most: int) -> None:
        self._since, self._until, self._most = since, until, most
        self._below = events.SHARES
        self._sides: dict[tuple[str, str], Side] = {}
        self._truth: dict[str, tuple[float, tuple[Any, ...]]] = {}
        self._counters: dict[str, tuple[Side, Mapping[str, Any]]] = {}
        self._usage: dict[tuple[str, str, str, int], dict[str, dict[str, Usage]]] = {}
        self.segments = 0
        self.damaged = 0

    @property
    def sampled(self) -> float:
        """Share of ids that are kept."""
        return self._below / events.SHARES

    def take(self, segment: Segment) -> None:
        """Add the events of a segment."""
        self.segments += 1
        self.damaged += segment.damaged
        who = segment.process
        for event in segment.events:
            try:
                self._take(segment, event)
            except (KeyError, TypeError, ValueError):
                self.damaged += 1
        side = self._sides.get((who.role, who.version))
        while side is not None and len(side.predictions) > self._most:
            self._halve()

    def sides(self, role: str) -> list[Side]:
        """The sides of a role that answered something; the one with the newest answer last."""
        for side, counters in self._counters.values():
            for name in EVENT_COUNTERS:
                side.counters[name] += int(counters.get("events", {}).get(name, 0))
            for name in MIRROR_COUNTERS:
                side.counters[f"mirror_{name}"] += int(counters.get("mirror", {}).get(name, 0))
            side.processes += 1
            side.killed += bool(counters.get("killed"))
        self._counters.clear()
        for (side_role, version, host, _), processes in self._usage.items():
            self._sides[side_role, version].usage.append(_together(host, processes))
        self._usage.clear()
        return sorted((side for side in self._sides.values() if side.role == role and side.requests), key=_last)

    def truth(self, target: Target) -> dict[str, tuple[Any, ...]]:
        """The truths known, by request id, as the target has them."""
        return {id: tuple(target.known(value) for value in values) for id, (_, values) in self._truth.items()}

    def _take(self, segment: Segment, event: Mapping[str, Any]) -> None:
        at, kind, who = float(event["at"]), event["kind"], segment.process
        if kind == "label":
            # The latest label counts, in the period or not: a label comes later than its request.
            if self._kept(event["id"]) and at >= self._truth.get(event["id"], (0.0, ()))[0]:
                self._truth[event["id"]] = (at, tuple(event["labels"]))
            return
        if not self._since.timestamp() <= at <= self._until.timestamp():
            return
        side = self._sides.setdefault((who.role, who.version), Side(who.role, who.version))
        if kind == "prediction":
            self._prediction(side, event, at)
        elif kind == "usage":
            usage = Usage(
                who.host,
                at,
                float(event["seconds"]),
                float(event["cpu_seconds"]),
                float(event["memory_bytes"]),
                int(event["requests"]),
                float(event.get("left_out_cpu_seconds", 0.0)),
            )
            # Processes of one host record usage every ten seconds, at about the same time: one bucket of ten seconds.
            together = self._usage.setdefault((who.role, who.version, who.host, round(at / 10)), {})
            together.setdefault(str(event["of"]), {})[who.process] = usage
        elif kind == "counters":
            self._counters[who.process] = (side, event)

    def _prediction(self, side: Side, event: Mapping[str, Any], at: float) -> None:
        id, status = str(event["id"]), int(event["status"])
        prediction = Prediction(
            at,
            status,
            float(event["ms"]),
            _labels(event.get("labels", ())),
            tuple(float(score) for score in event.get("scores", ())),
            bool(event.get("mirrored")),
        )
        side.requests += 1
        side.errors += status >= 500
        side.mirrored += prediction.mirrored
        side.last = max(side.last, at)
        if not self._kept(id):
            return
        if id in side.predictions:
            side.repeated.add(id)
        side.predictions[id] = prediction

    def _kept(self, id: str) -> bool:
        return self._below == events.SHARES or events.share(id) < self._below

    def _halve(self) -> None:
        self._below //= 2
        for side in self._sides.values():
            side.predictions = {id: prediction for id, prediction in side.predictions.items() if self._kept(id)}
            side.repeated = {id for id in side.repeated if self._kept(id)}
        self._truth = {id: labels for id, labels in self._truth.items() if self._kept(id)}


def observe(
    storage: Storage, service: str, since: datetime, until: datetime, most: int, ghost: str | None = None
) -> Observed:
    """Read and join the events of a service between two moments.

    ghost: a model version; by default that of the newest answer. most: requests of a side held in memory.
    Raises NothingObservedError, EventsError or StorageError.
    """
    collector = Collector(since, until, most)
    for key in events.keys(storage, service, since, until):
        collector.take(events.read(storage, key))
    place = f"{storage.url}/{events.PREFIX}/{service}"
    if not collector.segments:
        raise NothingObservedError(
            f"no events in {place} since {since:%Y-%m-%d %H:%M} UTC. Both sides have to take notes: add "
            "../../components/events to `components` of deploy/k8s/overlays/production and ghost, with its image as "
            "its first lines say, and deploy both; elsewhere set SERVING_EVENTS and run "
            f"{hint('ship-events DIRECTORY')}"
        )
    ghosts, lives = collector.sides("ghost"), collector.sides("live")
    chosen = _chosen_ghost(ghosts, ghost, f"{place} since {since:%Y-%m-%d %H:%M} UTC")
    live = max(
        lives, key=lambda side: (len(side.predictions.keys() & chosen.predictions.keys()), side.last), default=None
    )
    published = _published_target(storage, chosen.version)
    target = published or _guessed_target(chosen)
    truth = collector.truth(target)
    unlike = _why_unlike(storage, live, chosen, published) if live else ""
    pairs, unmatched = _pairs(live, chosen, truth, rows=not unlike)
    return Observed(
        service=service,
        since=since,
        until=until,
        live=live,
        ghost=chosen,
        other_versions=tuple(f"{side.role} {side.version}" for side in (*ghosts, *lives) if side not in (chosen, live)),
        pairs=pairs,
        alone=_alone(chosen, truth),
        sampled=collector.sampled,
        target=target,
        guessed=published is None,
        unlike=unlike,
        labels=len(truth),
        unmatched=unmatched,
        segments=collector.segments,
        damaged=collector.damaged,
    )


def _published_target(storage: Storage, version: str) -> Target | None:
    """The target of a published model; None if it is not in the store, or does not say. Raises StorageError."""
    try:
        return targets.of_manifest(manifest.read(storage, f"models/{version}").properties)
    except (MissingKeyError, ArtifactError, KeyError, ValueError):
        return None


def _guessed_target(side: Side) -> Target:
    """By whether it says labels: a number is never taken for one."""
    labelled = any(prediction.labels for prediction in side.predictions.values())
    return Classes("label", ()) if labelled else Number("value")


def _why_unlike(storage: Storage, live: Side, ghost: Side, target: Target | None) -> str:
    """Why both models' answers cannot be held against each other; empty if they can. target: the ghost's, if known.

    Raises StorageError.
    """
    there = _published_target(storage, live.version)
    if target is not None and there is not None:
        return target.unlike(there)
    labelled = [any(said.labels for said in side.predictions.values()) for side in (live, ghost)]
    scored = all(any(said.scores for said in side.predictions.values()) for side in (live, ghost))
    if not scored or labelled[0] == labelled[1]:
        return ""
    return f"it gives {'labels' if labelled[0] else 'values'}, and the ghost {'labels' if labelled[1] else 'values'}"


def _chosen_ghost(ghosts: Sequence[Side], version: str | None, where: str) -> Side:
    """The ghost of a model version, by default the one with the newest answer. Raises NothingObservedError."""
    chosen = next((side for side in reversed(ghosts) if version in (None, side.version)), None)
    if chosen is None:
        wanted = f"of a ghost {version}" if version else "of a ghost"
        others = f"; there are {', '.join(side.version for side in ghosts)}" if ghosts else ""
        raise NothingObservedError(
            f"no answers {wanted} in {where}{others}; "
            f"deploy one with: {hint('deploy --environment ghost --model VERSION')}"
        )
    return chosen


def _pairs(
    live: Side | None, ghost: Side, truth: Mapping[str, tuple[Any, ...]], rows: bool = True
) -> tuple[Pairs, int]:
    """The pairs, with rows or without, and how many of their requests have truths that do not match their rows."""
    known = live.predictions if live else {}
    repeated = ghost.repeated | (live.repeated if live else set())
    shared = [id for id in known if id in ghost.predictions and id not in repeated]
    paired: list[tuple[str | None, str | None, float, float, Any]] = []
    unmatched = 0
    for id in shared if rows else ():
        one, other = known[id], ghost.predictions[id]
        count = len(one.scores)
        if not count or count != len(other.scores):
            continue
        true = truth.get(id, ())
        if len(true) not in (0, count):
            unmatched += 1
        fitting = true if len(true) == count else (None,) * count
        labels = (side.labels or (None,) * count for side in (one, other))
        paired += zip(*labels, one.scores, other.scores, fitting, strict=True)
    columns = list(zip(*paired, strict=True)) or [()] * 5
    return (
        Pairs(
            live_ms=_floats(known[id].ms for id in shared),
            ghost_ms=_floats(ghost.predictions[id].ms for id in shared),
            live_status=np.array([known[id].status for id in shared], np.int64),
            ghost_status=np.array([ghost.predictions[id].status for id in shared], np.int64),
            live=Answers(_objects(columns[0]), _floats(columns[2])),
            ghost=Answers(_objects(columns[1]), _floats(columns[3])),
            truth=_objects(columns[4]),
        ),
        unmatched,
    )


def _alone(ghost: Side, truth: Mapping[str, tuple[Any, ...]]) -> Alone:
    rows: list[tuple[str | None, float, Any]] = []
    for id, prediction in ghost.predictions.items():
        count, true = len(prediction.scores), truth.get(id, ())
        fitting = true if len(true) == count and id not in ghost.repeated else (None,) * count
        rows += zip(prediction.labels or (None,) * count, prediction.scores, fitting, strict=True)
    columns = list(zip(*rows, strict=True)) or [()] * 3
    predictions = ghost.predictions.values()
    return Alone(
        ms=_floats(prediction.ms for prediction in predictions),
        status=np.array([prediction.status for prediction in predictions], np.int64),
        ghost=Answers(_objects(columns[0]), _floats(columns[1])),
        truth=_objects(columns[2]),
    )


def _together(host: str, of: Mapping[str, Mapping[str, Usage]]) -> Usage:
    """The usage of a host: the container's, as any of its processes read it, or the sum over its processes.

    CPU seconds that are `left_out` are subtracted.
    """
    container, processes = list(of.get("container", {}).values()), list(of.get("process", {}).values())
    samples = container or processes
    requests = sum(sample.requests for sample in samples)
    left_out = sum(sample.left_out for sample in samples)
    if container:
        whole = max(container, key=lambda sample: sample.seconds)
        return whole._replace(cpu_seconds=max(0.0, whole.cpu_seconds - left_out), requests=requests)
    return Usage(
        host,
        samples[0].at,
        max(sample.seconds for sample in samples),
        max(0.0, sum(sample.cpu_seconds for sample in samples) - left_out),
        sum(sample.memory_bytes for sample in samples),
        requests,
    )


def _labels(given: Any) -> tuple[str | None, ...]:
    return tuple(None if label is None else label_text(label) for label in given)


def _last(side: Side) -> float:
    return side.last


def _floats(values: Iterable[Any]) -> Floats:
    return np.array(list(values), np.float64)


def _objects(values: Iterable[Any]) -> Objects:
    array = np.empty(len(content := list(values)), object)
    array[:] = content
    return array
