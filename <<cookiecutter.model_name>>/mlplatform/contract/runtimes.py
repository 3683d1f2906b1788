"""What can compute a published model: `runtimes` in its manifest, by name."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from mlplatform.config.settings import Section
from mlplatform.store.manifest import ArtifactError, Manifest

Runtime = Literal["tensorflow", "litert", "onnx"]

# What a training writes, by the runtime that it is written for, and as an older manifest says without saying so.
EXPORTS: Mapping[str, str] = {"tensorflow": "saved_model", "onnx": "model.onnx"}
_BEFORE = {"tensorflow": {"path": EXPORTS["tensorflow"], "valid": True}}


class RuntimeSettings(Section, section="serving"):
    """The one setting of the server that the building of its image follows, too."""

    model_config = SettingsConfigDict(extra="ignore")
    runtime: Runtime = Field(default="tensorflow", description="what computes the model")


def exported_for(properties: Mapping[str, Any]) -> str:
    """The runtime that a model was exported for, tensorflow or onnx: copies for others have to predict like it.

    properties: of the manifest of a model, or of a training.
    """
    runtimes = properties.get("runtimes", _BEFORE)
    return next((name for name in EXPORTS if runtimes.get(name, {}).get("valid")), "tensorflow")


def runtime_path(model: Manifest, name: str) -> str:
    """Path below the model's files of what a runtime, tensorflow, litert or onnx, computes.

    Raises ArtifactError if the model is not for it, or holds no such file, with the reason and what to do.
    """
    entry = model.properties.get("runtimes", _BEFORE).get(name)
    if entry is None or not entry.get("valid"):
        reason = (entry or {}).get("reason", "it was published without it")
        raise ArtifactError(
            f"[serving] runtime = {name!r} cannot compute model {model.id}: {reason}; "
            f"use runtime = {exported_for(model.properties)!r}"
        )
    path = str(entry["path"])
    if not any(file == path or file.startswith(f"{path}/") for file in model.files):
        raise ArtifactError(
            f"model {model.id}: runtimes.{name}.path = {path!r} is none of its files; publish the model again"
        )
    return path
