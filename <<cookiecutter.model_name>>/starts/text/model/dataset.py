"""The dataset: sentences and phrases of user interfaces in fifteen languages."""

from pathlib import Path
from typing import Any

# Directory of the bundled records: *.jsonl or *.csv, optionally compressed as .gz.
# To use other data: `.venv/bin/nox -s train -- --source ...`.
DATA = Path(__file__).parent / "data"

# The classes, in the order of the model's output: the languages' codes in ISO 639-1.
LABELS = ("cs", "da", "de", "en", "es", "fi", "fr", "hu", "id", "it", "nl", "pl", "pt", "sv", "tr")

# One record, as JSON Schema (2020-12). Each property is an input of the network with the same name, except `label` and
# the optional `id`, which decides whether an example belongs to the train, validation or test split.
RECORD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "text": {"type": "string", "minLength": 1},
        "label": {"enum": list(LABELS)},
    },
    "required": ["text", "label"],
    "additionalProperties": False,
}
