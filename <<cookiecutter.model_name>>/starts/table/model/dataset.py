"""The dataset: chemical analyses of wines from one region of Italy, classified by cultivar."""

from pathlib import Path
from typing import Any

# Directory of the bundled records: *.jsonl or *.csv, optionally compressed as .gz.
# To use other data: `.venv/bin/nox -s train -- --source ...`.
DATA = Path(__file__).parent / "data"

# The classes, in the order of the model's output.
LABELS = ("cultivar-1", "cultivar-2", "cultivar-3")

# Measurement -> its mean and standard deviation over the bundled analyses; the network normalises with them.
MEASUREMENTS = {
    "alcohol": (13, 0.81),
    "malic_acid": (2.336, 1.11),
    "ash": (2.367, 0.274),
    "alcalinity_of_ash": (19.49, 3.33),
    "magnesium": (99.74, 14.2),
    "total_phenols": (2.295, 0.624),
    "flavanoids": (2.029, 0.996),
    "nonflavanoid_phenols": (0.3619, 0.124),
    "proanthocyanins": (1.591, 0.571),
    "color_intensity": (5.058, 2.31),
    "hue": (0.9574, 0.228),
    "od280_od315": (2.612, 0.708),
    "proline": (746.9, 314),
}

# One record, as JSON Schema (2020-12). Each property is an input of the network with the same name, except `label` and
# the optional `id`, which decides whether an example belongs to the train, validation or test split.
RECORD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1},
        **{name: {"type": "number", "minimum": 0} for name in MEASUREMENTS},
        "label": {"enum": list(LABELS)},
    },
    "required": [*MEASUREMENTS, "label"],
    "additionalProperties": False,
}
