"""Releases: which model version is in production. The one thing in a store that is replaced."""

import json
from datetime import UTC, datetime

from artifacts.manifest import MANIFEST, ArtifactError
from artifacts.storage import MissingKeyError, Storage

PRODUCTION = "releases/production.json"


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


def set_production(storage: Storage, version: str) -> None:
    """Say that a model version is in production from now on.

    Raises ArtifactError if the store has no such version, and StorageError.
    """
    if "/" in version or not storage.exists(f"models/{version}/{MANIFEST}"):
        raise ArtifactError(
            f"model version {version!r}: not in {storage.url}/models; python -m delivery models lists them"
        )
    since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    storage.write(PRODUCTION, json.dumps({"version": version, "since": since}).encode() + b"\n")
