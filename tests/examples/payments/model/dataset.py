"""The dataset: card payments, of which few are fraud; model/data/README.md says how they were made."""

from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"

LABELS = ("ok", "fraud")

# Number -> about its mean and standard deviation, of the logarithm where it spreads over powers of ten.
AMOUNT = (3.7, 1.0)
HOUR = (13.0, 5.0)
# These two may be missing: a guest has no account, and not every payment says where it was made.
GAPS = {"account_days": (5.5, 1.3), "distance_km": (2.0, 1.5)}
COUNTRIES = ("AT", "DE", "FR", "PL")
MERCHANTS = ("electronics", "fuel", "groceries", "restaurant", "tickets", "travel")

RECORD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "amount": {"type": "number", "exclusiveMinimum": 0},
        "hour": {"type": "integer", "minimum": 0, "maximum": 23},
        "account_days": {"type": ["number", "null"], "minimum": 0},
        "distance_km": {"type": "number", "minimum": 0},
        "country": {"type": "string", "minLength": 2},
        "merchant": {"enum": list(MERCHANTS)},
        "card_present": {"type": "boolean"},
        "label": {"enum": list(LABELS)},
    },
    "required": ["amount", "hour", "account_days", "country", "merchant", "card_present", "label"],
    "additionalProperties": False,
}
