"""What models learn. A kind of target is a file here, and a line in KINDS."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from mlplatform.config.settings import SettingsError
from mlplatform.contract.targets.base import Target
from mlplatform.contract.targets.classes import Classes
from mlplatform.contract.targets.number import Number
from mlplatform.contract.targets.ordinal import Ordinal
from mlplatform.contract.targets.tags import Tags

__all__ = ["Classes", "Number", "Ordinal", "Tags", "Target", "of_manifest", "of_model"]

KINDS: Mapping[str, type[Target]] = {kind.kind: kind for kind in (Classes, Number, Ordinal, Tags)}


def of_model(model: ModuleType) -> Target:
    """What the team's package says that its model learns: `TARGETS`, or one of its `LABELS`. Raises SettingsError."""
    given = getattr(model, "TARGETS", None)
    if given is None:
        if not hasattr(model, "LABELS"):
            raise SettingsError("model: it has neither LABELS nor TARGETS; say what is learned, in model/dataset.py")
        given = (Classes("label", model.LABELS),)
    if not isinstance(given, tuple | list) or len(given) != 1 or not isinstance(given[0], Target):
        kinds = ", ".join(kind.__name__ for kind in KINDS.values())
        raise SettingsError(f"model.TARGETS = {given!r}: it must hold one target, one of {kinds}")
    given[0].check()
    target: Target = given[0]
    return target


def of_manifest(properties: Mapping[str, Any]) -> Target | None:
    """The target of a model or dataset by its manifest's properties; one of before has labels alone, or nothing.

    Raises ValueError if it is of a kind that is not known here.
    """
    listed = properties.get("targets")
    if not listed:
        return Classes("label", properties["labels"]) if properties.get("labels") else None
    kind = KINDS.get(listed[0]["kind"])
    if kind is None:
        raise ValueError(f"a target of kind {listed[0]['kind']!r} is not known here: update the repository")
    return kind.from_json(listed[0])
