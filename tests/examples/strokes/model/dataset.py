"""The dataset: handwritten digits as the strokes of a pen that draws them line by line, 8 to 14 for each."""

from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"

LABELS = tuple("0123456789")

# Line, first and last column, ink.
STROKE = {"type": "array", "minItems": 4, "maxItems": 4, "items": {"type": "number", "minimum": 0, "maximum": 16}}

RECORD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1},
        # Four in each of eight lines are the most that there can be. Shorter lists are filled up with 0, as no stroke
        # is without ink.
        "strokes": {"type": "array", "minItems": 1, "maxItems": 32, "items": STROKE},
        "label": {"enum": list(LABELS)},
    },
    "required": ["strokes", "label"],
    "additionalProperties": False,
}
