"""The dataset: ten measurements of patients with diabetes, and how far the disease had progressed a year later."""

from pathlib import Path
from typing import Any

from mlplatform.contract.targets import Number

# Directory of the bundled records: *.jsonl or *.csv, optionally compressed as .gz.
# To use other data: `.venv/bin/nox -s train -- --source ...`.
DATA = Path(__file__).parent / "data"

# What is learned: a number without a unit; scores go from 25 to 346.
TARGETS = (Number("progression"),)

# Measurement -> its mean and standard deviation over the bundled patients; the network normalises with them.
MEASUREMENTS = {
    "age": (48.52, 13.1),
    "sex": (1.468, 0.499),
    "body_mass_index": (26.38, 4.41),
    "blood_pressure": (94.65, 13.8),
    "total_cholesterol": (189.1, 34.6),
    "ldl": (115.4, 30.4),
    "hdl": (49.79, 12.9),
    "cholesterol_ratio": (4.07, 1.29),
    "log_triglycerides": (4.641, 0.522),
    "glucose": (91.26, 11.5),
}

# One record, as JSON Schema (2020-12). Each property is an input of the network with the same name, except the target
# and the optional `id`, which decides whether an example belongs to the train, validation or test split.
RECORD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1},
        **{name: {"type": "number", "minimum": 0} for name in MEASUREMENTS},
        "progression": {"type": "number", "minimum": 0},
    },
    "required": [*MEASUREMENTS, "progression"],
    "additionalProperties": False,
}
