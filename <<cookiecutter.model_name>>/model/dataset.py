"""The dataset: handwritten digits, 8x8 pixels in 17 shades of grey."""

from pathlib import Path
from typing import Any

# Where the bundled records lie: *.jsonl, *.csv, either also as .gz.
# Another place: `python -m mlplatform.training --source ...`.
DATA = Path(__file__).parent / "data"

# The classes, in the order of the model's output.
LABELS = tuple("0123456789")

# One record, as JSON Schema (2020-12). Every property is an input of the network by the same name, except `label` and
# the optional `id`, which decides whether an example is used for training, validation or test.
RECORD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "image": {
            "type": "array",
            "minItems": 8,
            "maxItems": 8,
            "items": {
                "type": "array",
                "minItems": 8,
                "maxItems": 8,
                "items": {"type": "number", "minimum": 0, "maximum": 16},
            },
        },
        "label": {"enum": list(LABELS)},
    },
    "required": ["image", "label"],
    "additionalProperties": False,
}
