"""The published models, as a table."""

from collections.abc import Sequence

from artifacts.manifest import Manifest, list_artifacts
from artifacts.storage import Storage

HEADER = ("version", "created", "accuracy", "dataset", "code", "commit")


def list_models(storage: Storage) -> list[Manifest]:
    """Manifests of the published models, oldest first."""
    return list_artifacts(storage, "models")


def table(models: Sequence[Manifest]) -> str:
    """A line per model version with its accuracy on the test split and what it was made from."""
    rows = [HEADER, *(_row(model) for model in models)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _row(model: Manifest) -> tuple[str, ...]:
    made_from = model.properties
    commit = made_from.get("git_commit") or "-"
    accuracy = f"{made_from['metrics']['accuracy']:.4f}"
    return (model.id, model.created_at, accuracy, made_from["dataset"], made_from["code"], commit[:10])
