"""Numbers that are missing: null in records and requests, NaN for the model."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def with_nan(value: Any, shape: Sequence[int | None]) -> Any:
    """A value of a shape, or nested lists of values, with NaN in place of each null; of any length (None) it stays."""
    if value is None and None not in shape:
        return np.full([size or 0 for size in shape], np.nan).tolist()
    return [with_nan(item, shape[1:]) for item in value] if isinstance(value, list) and shape else value
