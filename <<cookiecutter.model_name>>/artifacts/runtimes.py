"""What can compute a published model: `runtimes` in its manifest, by name."""

from artifacts.manifest import ArtifactError, Manifest


def runtime_path(model: Manifest, name: str) -> str:
    """Path below the model's files of what a runtime, tensorflow or litert, computes.

    Raises ArtifactError if the model is not for it, with the reason and what to do.
    """
    runtimes = model.properties.get("runtimes", {"tensorflow": {"path": "saved_model", "valid": True}})
    entry = runtimes.get(name)
    if entry is None or not entry.get("valid"):
        reason = (entry or {}).get("reason", "it was published without it")
        raise ArtifactError(
            f"[serving] runtime = {name!r} cannot compute model {model.id}: {reason}; use runtime = 'tensorflow'"
        )
    return str(entry["path"])
