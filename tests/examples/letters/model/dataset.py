"""The dataset: letters of three alphabets in sixteen fonts each, 16x16 pixels.

Train with `split_group = "letter"`: then the letters of the test split were never seen in training.
"""

from pathlib import Path
from typing import Any

from mlplatform.contract.targets import Vector

DATA = Path(__file__).parent / "data"

SIZE = 32

TARGETS = (Vector("letter", SIZE),)

ROW = {"type": "array", "minItems": 16, "maxItems": 16, "items": {"type": "number", "minimum": 0, "maximum": 9}}

RECORD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "image": {"type": "array", "minItems": 16, "maxItems": 16, "items": ROW},
        "letter": {"type": "string", "minLength": 1},
    },
    "required": ["image", "letter"],
    "additionalProperties": False,
}
