"""Releases: `releases/production.json` records the production version, the one key of a store that changes."""

import json
from dataclasses import dataclass

from mlplatform.config.hints import hint
from mlplatform.store.errors import MissingKeyError
from mlplatform.store.manifest import MANIFEST, ArtifactError
from mlplatform.store.moments import iso
from mlplatform.store.protocol import Storage

PRODUCTION = "releases/production.json"


@dataclass(frozen=True)
class Pointer:
    """The production version, None if there is none, and the identity of the file that records it."""

    version: str | None
    identity: str | None


def production(storage: Storage) -> str | None:
    """The model version in production, or None if there is none. Raises StorageError or ArtifactError."""
    try:
        content = storage.read(PRODUCTION)
    except MissingKeyError:
        return None
    try:
        return str(json.loads(content)["version"])
    except (ValueError, KeyError, TypeError):
        raise ArtifactError(
            f'{storage.url}/{PRODUCTION}: must be {{"version": "<model version>", "since": "<UTC, ISO 8601>"}}'
        ) from None


def pointer(storage: Storage) -> Pointer:
    """The production version, for `set_production`, which notices a change in between. Raises as `production` does."""
    try:
        # Before the content: should that change in between, the identity is out of date and nothing is replaced.
        identity = storage.identity(PRODUCTION)
    except MissingKeyError:
        return Pointer(None, None)
    return Pointer(production(storage), identity)


def set_production(storage: Storage, version: str, before: Pointer | None = None) -> bool:
    """Record a model version as the production version; with `before` only if that is still recorded, else False.

    Raises ArtifactError if the store has no such version, and StorageError.
    """
    if "/" in version or not storage.exists(f"models/{version}/{MANIFEST}"):
        raise ArtifactError(f"model version {version!r}: not in {storage.url}/models; the list: {hint('models')}")
    content = json.dumps({"version": version, "since": iso()}).encode() + b"\n"
    if before is not None:
        return storage.replace(PRODUCTION, content, before.identity)
    storage.write(PRODUCTION, content)
    return True
