"""The dataset: photos of handwritten digits, image files of any size."""

from pathlib import Path
from typing import Any

# Nothing is bundled: `data add images` puts records into the store, `train -- --source store/sources` reads them there.
DATA = Path(__file__).parent / "data"

LABELS = tuple("0123456789")

RECORD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "photo": {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/*"},
        "label": {"enum": list(LABELS)},
    },
    "required": ["photo", "label"],
    "additionalProperties": False,
}
