"""The model in production: which one it is, and what it predicts for the examples that a new one is measured on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlplatform.data.dataset import Split
from mlplatform.store import manifest, releases
from mlplatform.store.manifest import ArtifactError, Manifest
from mlplatform.store.storage import MissingKeyError, Storage
from mlplatform.training.evaluation import Probabilities
from mlplatform.training.export import Exported, predict_split


class UnusableError(Exception):
    """Production has a model, and it cannot be compared with; the message is a clause that says why."""


@dataclass(frozen=True)
class Production:
    """The model in production: its version and manifest."""

    version: str
    manifest: Manifest


def find(storage: Storage) -> Production | None:
    """The model in production, or None if there was no release yet. Raises UnusableError or StorageError."""
    try:
        version = releases.production(storage)
    except ArtifactError as error:
        raise UnusableError(f"the model in production is not known: {error}") from None
    if version is None:
        return None
    try:
        return Production(version, manifest.read(storage, f"models/{version}"))
    except MissingKeyError:
        raise UnusableError(f"model {version}, said to be in production, is not in {storage.url}/models") from None
    except ArtifactError as error:
        raise UnusableError(f"model {version}, in production, is damaged: {error}") from None


def predict(production: Production, storage: Storage, work: Path, split: Split, batch_size: int) -> Probabilities:
    """Probabilities (examples, classes) of production's model for a split. Raises UnusableError or StorageError."""
    try:
        _, content = manifest.fetch(storage, f"models/{production.version}", work)
    except (ArtifactError, MissingKeyError) as error:
        raise UnusableError(f"model {production.version}, in production, is damaged: {error}") from None
    try:
        return predict_split(
            Exported(content / "saved_model", production.manifest.properties["signature"]), split, batch_size
        )
    # Whatever TensorFlow says: a model of another TensorFlow, operations that are not there.
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnusableError(f"model {production.version}, in production, does not run here: {reason}") from error


def may_have_learned(production: Production, trained: Mapping[str, Any]) -> bool:
    """Whether part of this test split was in production's training or validation data.

    The test split is the lowest part of the range of hashes: with a smaller fraction, production was tested on less.
    """
    fractions = (properties.get("parameters", {}) for properties in (production.manifest.properties, trained))
    there, here = (parameters.get("test_fraction", 0) for parameters in fractions)
    return bool(there < here)
