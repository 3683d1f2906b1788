"""What the team's package `model` says of data: its record, its labels, its steps, what of a request may be kept."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlplatform.config.settings import SettingsError
from mlplatform.contract.parameters import target
from mlplatform.data.steps import Step

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


def steps() -> tuple[Step, ...]:
    """`model.STEPS`; empty without it. Raises SettingsError for what is none."""
    import model

    given = getattr(model, "STEPS", ())
    if not isinstance(given, Sequence) or not all(isinstance(step, Step) for step in given):
        raise SettingsError(f"model.STEPS is {given!r}; make it a tuple of Step(function, version)")
    for step in given:
        name, version = step.identity
        if not callable(step.function) or not name or not isinstance(step.version, int | str) or not version:
            raise SettingsError(
                f"model.STEPS: {step!r} needs a function with a name, and a version: a whole number or text that you "
                "change whenever the function gives something else"
            )
    return tuple(given)


def redact() -> Redact | None:
    """The team's `redact(record)`, if there is one: a record as it may be kept, or None if it may not."""
    import model

    function: Redact | None = getattr(model, "redact", None)
    return function
