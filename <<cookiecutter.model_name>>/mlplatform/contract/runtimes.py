"""What can compute a published model: `runtimes` in its manifest, by name."""

from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from mlplatform.config.settings import Section
from mlplatform.store.manifest import ArtifactError, Manifest


class RuntimeSettings(Section, section="serving"):
    """The one setting of the server that the building of its image follows, too."""

    model_config = SettingsConfigDict(extra="ignore")
    runtime: Literal["tensorflow", "litert"] = Field(default="tensorflow", description="what computes the model")


def runtime_path(model: Manifest, name: str) -> str:
    """Path below the model's files of what a runtime, tensorflow or litert, computes.

    Raises ArtifactError if the model is not for it, or holds no such file, with the reason and what to do.
    """
    runtimes = model.properties.get("runtimes", {"tensorflow": {"path": "saved_model", "valid": True}})
    entry = runtimes.get(name)
    if entry is None or not entry.get("valid"):
        reason = (entry or {}).get("reason", "it was published without it")
        raise ArtifactError(
            f"[serving] runtime = {name!r} cannot compute model {model.id}: {reason}; use runtime = 'tensorflow'"
        )
    path = str(entry["path"])
    if not any(file == path or file.startswith(f"{path}/") for file in model.files):
        raise ArtifactError(
            f"model {model.id}: runtimes.{name}.path = {path!r} is none of its files; publish the model again"
        )
    return path
