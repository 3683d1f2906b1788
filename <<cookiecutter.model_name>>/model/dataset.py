"""The dataset: handwritten digits, 8x8 pixels in 17 shades of grey."""

from pathlib import Path
from typing import Any

# Directory of the bundled records: *.jsonl or *.csv, optionally compressed as .gz.
# To use other data: `.venv/bin/nox -s train -- --source ...`.
DATA = Path(__file__).parent / "data"

# The classes, in the order of the model's output.
LABELS = tuple("0123456789")

# One record, as JSON Schema (2020-12). Each property is an input of the network with the same name, except `label` and
# the optional `id`, which decides whether an example belongs to the train, validation or test split.
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
