"""What the team's package `model` says of data: its record, its labels, and what of a request may be kept."""

from collections.abc import Callable, Mapping
from typing import Any

from mlplatform.config.settings import SettingsError
from mlplatform.contract.parameters import target

Redact = Callable[[dict[str, Any]], dict[str, Any] | None]


def record_schema() -> Mapping[str, Any]:
    """`model.RECORD`."""
    from model import RECORD

    schema: Mapping[str, Any] = RECORD
    return schema


def labels() -> tuple[str, ...]:
    """The model's labels as text, for people to choose from. Raises SettingsError if it has none."""
    found = target()
    if not found.labels:
        raise SettingsError(
            f"model.TARGETS: {found.name!r} is of kind {found.kind!r}; people can only choose from labels"
        )
    return found.labels


def redact() -> Redact | None:
    """The team's `redact(record)`, if there is one: a record as it may be kept, or None if it may not."""
    import model

    function: Redact | None = getattr(model, "redact", None)
    return function
