"""Values that are missing: null in records and requests, NaN or a value of the team's choice for the model."""

from collections.abc import Sequence
from typing import Any

import numpy as np

# A keyword of ours in a property's schema: what the model is given where a value is missing.
MISSING = "missing"
# Such a value; None: none is named.
Sentinel = str | float | bool | None


def filled_in(value: Any, shape: Sequence[int | None], gap: Any) -> Any:
    """A value of a shape, or nested lists of values, with `gap` for each null; of any length (None) it stays null."""
    if value is None and None not in shape:
        return np.full([size or 0 for size in shape], gap, object).tolist()
    return [filled_in(item, shape[1:], gap) for item in value] if isinstance(value, list) and shape else value


def sentinel_fault(value: Any, dtype: str) -> str:
    """What a sentinel of an input of this dtype (`string`, or NumPy's name) has to be; empty if it is that."""
    if dtype == "string":
        return "" if isinstance(value, str) else "text"
    if dtype == "bool":
        return "" if isinstance(value, bool) else "true or false"
    kind = "whole number" if np.dtype(dtype).kind in "iu" else "number"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"a {kind}"
    if kind == "whole number":
        limits = np.iinfo(dtype)
        fits = isinstance(value, int) and limits.min <= value <= limits.max
        return "" if fits else f"a whole number from {limits.min} to {limits.max}"
    return "" if abs(value) <= np.finfo(dtype).max else f"a finite {dtype}"
