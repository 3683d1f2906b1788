"""Events as the servers write them, made up: what a live model and a ghost answered to the same requests."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlplatform.contract import events
from mlplatform.contract.events import EVENT_COUNTERS, MIRROR_COUNTERS, Process
from mlplatform.store.storage import LocalStorage

SERVICE = "under-test"
LIVE, GHOST = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def prediction(id: str, label: str | None = "1", ms: float = 2.0, **fields: Any) -> dict[str, Any]:
    """An answer with one row; its score follows from its id."""
    score = 0.5 + (sum(id.encode()) % 50) / 100
    found = {"kind": "prediction", "at": NOON.timestamp(), "id": id, "status": 200, "ms": ms, "scores": [score]}
    return {**found, **({"labels": [label]} if label else {}), **fields}


def truth(id: str, label: str | None = "1", at: float = 3600.0) -> dict[str, Any]:
    return {"kind": "label", "at": NOON.timestamp() + at, "id": id, "labels": [label]}


def usage(cpu_seconds: float, memory: float, at: float, requests: int = 100, of: str = "container") -> dict[str, Any]:
    return {
        "kind": "usage",
        "at": NOON.timestamp() + at,
        "of": of,
        "seconds": 10,
        "cpu_seconds": cpu_seconds,
        "memory_bytes": memory,
        "requests": requests,
    }


def counters(killed: bool = False, **numbers: int) -> dict[str, Any]:
    mirror = {name: numbers.pop(f"mirror_{name}", 0) for name in MIRROR_COUNTERS}
    found = {name: numbers.pop(name, 0) for name in EVENT_COUNTERS}
    assert not numbers, numbers
    return {"kind": "counters", "at": NOON.timestamp() + 60, "killed": killed, "events": found, "mirror": mirror}


def write(
    root: Path,
    role: str,
    content: Iterable[Mapping[str, Any]],
    version: str = "",
    process: str = "p1",
    host: str = "",
) -> str:
    """A segment in the store below `root`; its key."""
    version = version or {"live": LIVE, "ghost": GHOST}.get(role, "")
    who = Process(SERVICE, role, version, host or f"host-{process}", process)
    lines = b"".join(json.dumps(line).encode() + b"\n" for line in (who.header(), *content))
    key = events.key(who, 1, NOON)
    LocalStorage(root).write(key, events.pack(lines))
    return key


def label(number: int) -> str:
    """The true label of the request with this number: of two."""
    return "01"[number // 3 % 2]


def answered(
    root: Path, live: Iterable[bool], ghost: Iterable[bool], known: int | None = None, slower: float = 1.0
) -> None:
    """Both answer the same requests, rightly or not; the labels of the first `known` requests are told later."""
    live, ghost = list(live), list(ghost)
    true = [label(i) for i in range(len(live))]
    wrong = ["10"[int(t)] for t in true]
    ids = [f"r{i}" for i in range(len(live))]
    ms = [1 + (i % 100) / 10 for i in range(len(live))]
    write(
        root,
        "live",
        [
            prediction(id, r if hit else w, t, mirrored=True)
            for id, hit, t, r, w in zip(ids, live, ms, true, wrong, strict=True)
        ],
    )
    write(
        root,
        "ghost",
        [
            prediction(id, r if hit else w, t * slower)
            for id, hit, t, r, w in zip(ids, ghost, ms, true, wrong, strict=True)
        ],
    )
    write(root, "feedback", [truth(id, t) for id, t in zip(ids[:known], true, strict=False)])
