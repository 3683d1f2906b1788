"""Which model a new one must be compared with before it is published or released: the one in production."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlplatform.contract.comparison import Opponent
from mlplatform.contract.gate import why_incomparable
from mlplatform.store import manifest, releases
from mlplatform.store.manifest import ArtifactError, Manifest
from mlplatform.store.storage import MissingKeyError, Storage


class UnusableError(Exception):
    """Production has a model that the new one cannot be compared with; the message is a clause that says why."""


@dataclass(frozen=True)
class Choice:
    """What is in production, and whether to compare with it.

    production: manifest of the model in production; None if there was no release yet, or it cannot be read.
    opponent: without a comparison, for the gate, where there is none to make; None: compare with `production`.
    """

    production: Manifest | None
    opponent: Opponent | None


def in_production(storage: Storage) -> Manifest | None:
    """The manifest of the model in production, or None if there was no release yet.

    Raises UnusableError if a model is in production and its manifest cannot be read, and StorageError.
    """
    try:
        version = releases.production(storage)
    except ArtifactError as error:
        raise UnusableError(f"the model in production is not known: {error}") from None
    if version is None:
        return None
    try:
        return manifest.read(storage, f"models/{version}")
    except MissingKeyError:
        raise UnusableError(f"model {version}, said to be in production, is not in {storage.url}/models") from None
    except ArtifactError as error:
        raise UnusableError(f"model {version}, in production, is damaged: {error}") from None


def choose(storage: Storage, version: str, properties: Mapping[str, Any]) -> Choice:
    """Decide what a model is compared with; version, properties: its own, with `signature` and `targets`.

    Nothing, if there was no release yet, if it is in production itself, or if production's model does another task. A
    model in production that cannot be read closes the gate. Raises StorageError.
    """
    try:
        production = in_production(storage)
    except UnusableError as error:
        return Choice(None, Opponent(unusable=str(error)))
    if production is None:
        return Choice(None, Opponent(skipped="there is no model in production yet"))
    if production.id == version:
        return Choice(production, Opponent(skipped="this is the model in production"))
    reason = why_incomparable(production.properties, properties)
    if reason:
        return Choice(production, Opponent(skipped=f"model {production.id} is in production, and {reason}"))
    return Choice(production, None)
