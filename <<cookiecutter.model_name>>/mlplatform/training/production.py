"""What the model in production predicts for the test split of a new one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.opponent import UnusableError
from mlplatform.data.dataset import Split
from mlplatform.store import manifest
from mlplatform.store.manifest import ArtifactError, Manifest
from mlplatform.store.storage import MissingKeyError, Storage
from mlplatform.training.export import Exported, predict_split


def predict(production: Manifest, storage: Storage, work: Path, split: Split, batch_size: int) -> NDArray[np.float32]:
    """Predictions (examples, ...) of production's model for a split. Raises UnusableError or StorageError."""
    try:
        _, content = manifest.fetch(storage, f"models/{production.id}", work)
    except (ArtifactError, MissingKeyError) as error:
        raise UnusableError(f"model {production.id}, in production, is damaged: {error}") from None
    try:
        return predict_split(Exported.of(content, production.properties), split, batch_size)
    # A runtime raises anything: for a model of another version, for operations that it does not have.
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnusableError(f"model {production.id}, in production, does not run here: {reason}") from error


def may_have_learned(production: Manifest, trained: Mapping[str, Any]) -> bool:
    """Whether part of this test split was in production's training or validation data.

    The test split is the lowest part of the range of hashes: with a smaller fraction, production was tested on less. If
    something else decided the split, nothing is known; of a stratified one the ends move as data grows, and
    examples with near-duplicates do where these are kept together.
    """
    there, here = (properties.get("parameters", {}) for properties in (production.properties, trained))
    rules = ("split_group", "split_time", "test_after", "split_fixed")
    if any(here.get(name) or there.get(name) for name in ("split_stratified", "near_duplicates_together")):
        return True
    if any((there.get(name) or "") != (here.get(name) or "") for name in rules):
        return True
    return bool(there.get("test_fraction", 0) < here.get("test_fraction", 0))
