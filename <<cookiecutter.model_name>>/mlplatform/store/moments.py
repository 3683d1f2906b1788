"""Moments as the store has them: ISO 8601 in UTC, to the second."""

from datetime import UTC, datetime


def iso(moment: datetime | None = None) -> str:
    """A moment in UTC as text, such as 2027-01-31T08:00:00Z; without one, now."""
    return f"{moment or datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def parse(text: str) -> datetime:
    """The date or time that a text in ISO 8601 names, UTC if it says no other zone. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
