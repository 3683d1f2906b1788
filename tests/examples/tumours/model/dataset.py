"""The dataset: measurements of the nuclei of cells, by which a tumour is benign or malignant."""

from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"

LABELS = ("benign", "malignant")

_MEASURED = ("radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity")
_SHAPES = ("concave_points", "symmetry", "fractal_dimension")
MEASUREMENTS = tuple(f"{kind}_{name}" for kind in ("mean", "error", "worst") for name in (*_MEASURED, *_SHAPES))

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
