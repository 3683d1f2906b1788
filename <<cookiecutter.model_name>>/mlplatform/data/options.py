"""Options that several commands of `data` take."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import click

from mlplatform.config.settings import StorageSettings, load
from mlplatform.store import moments
from mlplatform.store.storage import open_storage

Command = Callable[..., Any]


def with_store(function: Command) -> Command:
    """Add the option --store; the command gets the store that it names, or that of [storage], as `store`."""

    @click.option("--store", metavar="URL", help="Root of the store.  [default: url of [storage]]")
    @wraps(function)
    def wrapped(store: str | None, **arguments: Any) -> Any:
        return function(store=open_storage(store or load(StorageSettings).url), **arguments)

    return wrapped


def in_time(function: Command) -> Command:
    """Add the options --since and --until; the command gets both as moments in UTC."""

    @click.option("--since", required=True, help="How long ago, such as 90m, 24h or 7d, or a date or time in ISO 8601.")
    @click.option("--until", help="A date or time in ISO 8601.  [default: now]")
    @wraps(function)
    def wrapped(since: str, until: str | None, **arguments: Any) -> Any:
        now = datetime.now(UTC)
        return function(since=moment(since, now), until=moment(until, now) if until else now, **arguments)

    return wrapped


def moment(text: str, now: datetime) -> datetime:
    """A time ago, or a moment in ISO 8601, UTC if it says no other. Raises click.UsageError."""
    try:
        return moments.since(text, now)
    except ValueError:
        raise click.UsageError(f"{text!r} is neither a time ago, such as 7d, nor a moment in ISO 8601") from None
