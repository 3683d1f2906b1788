"""The dataset: handwritten digits, 8x8 pixels, with three truths: the digit, how much ink there is, and its traits."""

from pathlib import Path
from typing import Any

from mlplatform.contract.targets import Classes, Number, Tags

DATA = Path(__file__).parent / "data"

DIGITS = tuple("0123456789")
TRAITS = ("even", "prime", "loop")

TARGETS = (Classes("digit", DIGITS), Number("ink", unit="%"), Tags("traits", TRAITS))

ROW = {"type": "array", "minItems": 8, "maxItems": 8, "items": {"type": "number", "minimum": 0, "maximum": 16}}

RECORD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "image": {"type": "array", "minItems": 8, "maxItems": 8, "items": ROW},
        "digit": {"enum": list(DIGITS)},
        "ink": {"type": "number", "minimum": 0, "maximum": 100},
        "traits": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["image", "digit", "ink", "traits"],
    "additionalProperties": False,
}
