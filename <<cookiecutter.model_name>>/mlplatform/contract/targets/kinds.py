"""The kinds of target, each a file beside this one."""

from collections.abc import Mapping
from typing import Any

from mlplatform.contract.targets.base import Target
from mlplatform.contract.targets.classes import Classes
from mlplatform.contract.targets.number import Number
from mlplatform.contract.targets.ordinal import Ordinal
from mlplatform.contract.targets.tags import Tags
from mlplatform.contract.targets.vector import Vector

KINDS: Mapping[str, type[Target]] = {kind.kind: kind for kind in (Classes, Number, Ordinal, Tags, Vector)}


def of_json(value: Mapping[str, Any]) -> Target:
    """One target as a manifest holds it. Raises ValueError if it is of a kind that is not known here."""
    kind = KINDS.get(value["kind"])
    if kind is None:
        raise ValueError(f"a target of kind {value['kind']!r} is not known here: update the repository")
    return kind.from_json(value)
