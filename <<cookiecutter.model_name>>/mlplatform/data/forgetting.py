"""Forgetting examples, as a person may ask for: they leave sources and parts, and come into no later version.

forgotten/<SHA-256 of the id>.json      when, and which versions and models held it; never the id itself
"""

import hashlib
import json
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mlplatform.data import catalog
from mlplatform.data.columns import load, numbers, texts
from mlplatform.data.dataset import SOURCE
from mlplatform.data.packing import pack, packing, unpack, unpacked_name
from mlplatform.store import manifest
from mlplatform.store.moments import iso
from mlplatform.store.storage import Storage

PREFIX = "forgotten"


@dataclass
class Forgotten:
    """Where an id was. versions, models: held it and still do; sources: files of the store that it was taken out of.

    outside: key and row of the source files elsewhere that hold it still.
    """

    id: str
    versions: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    outside: list[tuple[str, int]] = field(default_factory=list)


def forgotten_digests(storage: Storage) -> frozenset[str]:
    """SHA-256 of all forgotten ids, as hex digits."""
    return frozenset(key.removeprefix(f"{PREFIX}/").removesuffix(".json") for key in storage.keys(f"{PREFIX}/"))


def digest(example_id: bytes) -> str:
    """SHA-256 of an id as hex digits."""
    return hashlib.sha256(example_id).hexdigest()


def forget(storage: Storage, ids: Sequence[str], work: Path) -> list[Forgotten]:
    """Forget examples by their ids, or by those of the records that steps made them of.

    It may be repeated at any point: what is done already is not done again.

    That an id is forgotten is written first, so no gathering in between brings it back.
    """
    results = {example_id: Forgotten(example_id) for example_id in ids}
    for example_id in ids:
        _note(storage, results[example_id])
    _find_versions(storage, results, work)
    for key in [key for prefix in ("sources/", "labelling/") for key in storage.keys(prefix)]:
        for example_id in take_out(storage, key, set(ids)):
            results[example_id].sources.append(key)
    names = _source_keys(storage)
    for prefix in _parts(storage):
        _drop_part(storage, prefix, results, names, work)
    held = {version for result in results.values() for version in result.versions}
    # What was gathered before is gathered anew, from parts that do not hold them any more.
    parts = [key for key in storage.keys("gathered/") if "/parts-" in key]
    findings = [f"findings/{version}.json" for version in held]
    for key in [*parts, *findings, *catalog.gathered(storage, held)]:
        storage.delete(key)
    for result in results.values():
        _note(storage, result)
    return list(results.values())


def _note(storage: Storage, result: Forgotten) -> None:
    key = f"{PREFIX}/{digest(result.id.encode())}.json"
    before = json.loads(storage.read(key)) if storage.exists(key) else {"versions": [], "models": []}
    noted = {
        "at": before.get("at") or iso(),
        "versions": sorted({*before["versions"], *result.versions}),
        "models": sorted({*before["models"], *result.models}),
    }
    storage.write(key, json.dumps(noted, indent=1).encode())


def _find_versions(storage: Storage, results: dict[str, Forgotten], work: Path) -> None:
    models = manifest.list_artifacts(storage, "models")
    for version in catalog.versions(storage):
        held = catalog.fetch(storage, version, work).known_ids()
        for example_id, result in results.items():
            if example_id.encode() in held:
                result.versions.append(version.id)
                result.models += [model.id for model in models if model.properties.get("dataset") == version.id]


def take_out(storage: Storage, key: str, ids: Set[str]) -> set[str]:
    """Take records out of a file of the store's own sources, if it holds lines of JSON; returns the ids that it held.

    A file that holds no other record is removed.
    """
    if not unpacked_name(key).endswith(".jsonl"):
        return set()
    ending = packing(key)
    lines = unpack(storage.read(key), ending).splitlines(keepends=True)
    named = [(line, _id_of(line)) for line in lines]
    held = {example_id for _, example_id in named if example_id in ids}
    if held:
        kept = b"".join(line for line, example_id in named if example_id not in ids)
        if kept:
            storage.write(key, pack(kept, ending))
        else:
            storage.delete(key)
    return held


def _id_of(line: bytes) -> str:
    try:
        return str(json.loads(line)["id"])
    except (ValueError, LookupError, TypeError):
        return ""


def _source_keys(storage: Storage) -> dict[str, str]:
    """Keys of source files by the names that parts know them by."""
    names: dict[str, str] = {}
    for key in storage.keys("gathered/"):
        if key.endswith("/files.json"):
            names |= {file["identity"]: file["key"] for file in json.loads(storage.read(key))}
    return names


def _parts(storage: Storage) -> Iterator[str]:
    for fingerprint in storage.directories("parts/"):
        for part in storage.directories(f"parts/{fingerprint}/"):
            yield f"parts/{fingerprint}/{part}"


def _drop_part(storage: Storage, prefix: str, results: dict[str, Forgotten], names: dict[str, str], work: Path) -> None:
    """Remove a part that holds one of the ids; its files are checked anew when they are next gathered."""
    if manifest.find(storage, prefix) is None:
        return
    part, content = manifest.fetch(storage, prefix, work)
    wanted = {example_id.encode(): result for example_id, result in results.items()}
    found = False
    for path in sorted(content.glob("*.npz")):
        columns = load(path, ("id", "of", "row", SOURCE))
        for ids in (texts(columns, name).array() for name in ("id", SOURCE) if name in columns):
            for row in np.flatnonzero([example_id in wanted for example_id in ids]).tolist():
                found = True
                name = part.properties["files"][int(numbers(columns, "of")[row])]["name"]
                place = (names.get(name, ""), int(numbers(columns, "row")[row]))
                if name in names and place not in wanted[ids[row]].outside:
                    wanted[ids[row]].outside.append(place)
    if found:
        manifest.remove(storage, prefix)


def drop_parts_of(storage: Storage, names: Set[str]) -> None:
    """Remove the parts that hold source files with these names (see SourceFile); their other files are checked anew."""
    for prefix in list(_parts(storage)):
        part = manifest.find(storage, prefix)
        if part is not None and any(file["name"] in names for file in part.properties["files"]):
            manifest.remove(storage, prefix)
