"""What the team's package `model` says of data: its record, its labels, and what of a request may be kept."""

from collections.abc import Callable, Mapping
from typing import Any

from mlplatform.contract.labels import label_texts

Redact = Callable[[dict[str, Any]], dict[str, Any] | None]


def record_schema() -> Mapping[str, Any]:
    """`model.RECORD`."""
    from model import RECORD

    schema: Mapping[str, Any] = RECORD
    return schema


def labels() -> tuple[str, ...]:
    """`model.LABELS` as text. Raises SettingsError."""
    from model import LABELS

    return label_texts(LABELS)


def redact() -> Redact | None:
    """The team's `redact(record)`, if there is one: a record as it may be kept, or None if it may not."""
    import model

    function: Redact | None = getattr(model, "redact", None)
    return function
