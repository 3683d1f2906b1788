"""Steps: what a team does with the records of a source before they are checked; `model.STEPS`.

Importing this needs no other package.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """A step of `model.STEPS`.

    function: takes a record as its source holds it, and returns what stands for it: a record, several, or none, as an
    empty list or None. It must follow from the record alone. NumPy's numbers and arrays become JSON's, NaN null, and
    bytes base64. version: a whole number or text; raise it whenever the function gives something else. name: that of
    the function, unless given.
    """

    function: Callable[[dict[str, Any]], Any]
    version: int | str
    name: str = ""

    @property
    def identity(self) -> list[str]:
        """Name and version: what the names of checked files and of dataset versions follow from."""
        return [self.name or getattr(self.function, "__name__", ""), str(self.version)]
