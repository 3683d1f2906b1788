"""The dataset: handwritten digits, 8x8 pixels, with the traits that the digit has: none of a 1, two of a 0."""

from pathlib import Path
from typing import Any

from mlplatform.contract.targets import Tags

DATA = Path(__file__).parent / "data"

TRAITS = ("even", "prime", "loop")

# The run chooses a threshold for each.
TARGETS = (Tags("traits", TRAITS),)

ROW = {"type": "array", "minItems": 8, "maxItems": 8, "items": {"type": "number", "minimum": 0, "maximum": 16}}

RECORD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "image": {"type": "array", "minItems": 8, "maxItems": 8, "items": ROW},
        "traits": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["image", "traits"],
    "additionalProperties": False,
}
