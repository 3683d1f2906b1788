"""The dataset: chemical analyses of wines from one region of Italy, classified by cultivar."""

from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"

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
