"""A table of the published models: what a model was made from, what changed since the one before, which is live."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlplatform.store.manifest import ArtifactError, Manifest, list_artifacts
from mlplatform.store.protocol import Storage

HEADER: tuple[str, ...] = (
    "version",
    "created",
    "accuracy",
    "dataset",
    "code",
    "commit",
    "release",
    "parameters changed",
)
UNKNOWN = "-"


def list_models(storage: Storage, damaged: Callable[[ArtifactError], object] | None = None) -> list[Manifest]:
    """Manifests of the published models, oldest first. Raises StorageError, and ArtifactError without `damaged`.

    damaged: see list_artifacts.
    """
    return list_artifacts(storage, "models", damaged)


def table(models: Sequence[Manifest], production: str | None = None) -> str:
    """A line per model version, in the order given; `production`: the version to mark as such."""
    before: list[Manifest | None] = [None, *models]
    rows = [HEADER]
    rows += [_row(model, previous, model.id == production) for previous, model in zip(before, models, strict=False)]
    return columns(rows)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equally many cells as lines, each column as wide as its widest cell; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _row(model: Manifest, previous: Manifest | None, live: bool) -> tuple[str, ...]:
    made_from = model.properties
    metrics = made_from.get("metrics", {})
    accuracy, error = metrics.get("accuracy"), metrics.get("mean_absolute_error")
    several = f"{len(metrics['targets'])} targets" if metrics.get("targets") else UNKNOWN
    figure = f"{accuracy:.4f}" if isinstance(accuracy, int | float) else several
    return (
        model.id,
        model.created_at,
        f"MAE {error:.4g}" if isinstance(error, int | float) else figure,
        str(made_from.get("dataset") or UNKNOWN),
        str(made_from.get("code") or UNKNOWN),
        str(made_from.get("git_commit") or UNKNOWN)[:10],
        "production" if live else UNKNOWN,
        _changed(previous.properties, made_from) if previous else UNKNOWN,
    )


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The parameters whose values differ, with the new ones."""
    old, new = before.get("parameters", {}), after.get("parameters", {})
    changed = (name for name in sorted({*old, *new}) if (name in old, old.get(name)) != (name in new, new.get(name)))
    return ", ".join(f"{name}={new[name]}" if name in new else f"no {name}" for name in changed) or UNKNOWN
