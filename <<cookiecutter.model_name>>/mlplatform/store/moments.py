"""Moments as the store has them: ISO 8601 in UTC, to the second."""

import re
from datetime import UTC, datetime, timedelta

_AGO = re.compile(r"([0-9]{1,5})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def iso(moment: datetime | None = None) -> str:
    """A moment in UTC as text, such as 2027-01-31T08:00:00Z; without one, now."""
    return f"{moment or datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def parse(text: str) -> datetime:
    """The date or time that a text in ISO 8601 names, UTC if it says no other zone. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def since(text: str, now: datetime) -> datetime:
    """The moment that 90m, 24h or 7d (ago) names, or a date or time in ISO 8601. Raises ValueError."""
    ago = _AGO.fullmatch(text)
    return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])}) if ago else parse(text)
