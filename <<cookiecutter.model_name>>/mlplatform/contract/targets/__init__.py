"""What models learn. A kind of target is a file here, and a line in KINDS of kinds.py."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from mlplatform.config.settings import SettingsError
from mlplatform.contract.targets.base import Target
from mlplatform.contract.targets.classes import Classes
from mlplatform.contract.targets.kinds import KINDS, of_json
from mlplatform.contract.targets.number import Number
from mlplatform.contract.targets.ordinal import Ordinal
from mlplatform.contract.targets.several import Several
from mlplatform.contract.targets.tags import Tags
from mlplatform.contract.targets.vector import Vector

__all__ = ["KINDS", "Classes", "Number", "Ordinal", "Tags", "Target", "Vector", "of_manifest", "of_model"]


def of_model(model: ModuleType) -> Target:
    """What the team's package says that its model learns: `TARGETS`, or one of its `LABELS`. Raises SettingsError.

    Several targets come as one that holds them.
    """
    given = getattr(model, "TARGETS", None)
    if given is None:
        if not hasattr(model, "LABELS"):
            raise SettingsError("model: it has neither LABELS nor TARGETS; say what is learned, in model/dataset.py")
        given = (Classes("label", model.LABELS),)
    if not isinstance(given, tuple | list) or not given or not all(map(_is_one, given)):
        kinds = ", ".join(kind.__name__ for kind in KINDS.values())
        raise SettingsError(f"model.TARGETS = {given!r}: it must hold one target, one of {kinds}, or several")
    target: Target = given[0] if len(given) == 1 else Several(given)
    target.check()
    return target


def of_manifest(properties: Mapping[str, Any]) -> Target | None:
    """The target of a model or dataset by its manifest's properties; one of before has labels alone, or nothing.

    Raises ValueError if it is of a kind that is not known here.
    """
    listed = properties.get("targets")
    if not listed:
        return Classes("label", properties["labels"]) if properties.get("labels") else None
    found = [of_json(one) for one in listed]
    return found[0] if len(found) == 1 else Several(found)


def _is_one(given: object) -> bool:
    return isinstance(given, Target) and not isinstance(given, Several)
