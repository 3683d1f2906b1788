"""Options that several commands share, each as a decorator."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from mlplatform.config.settings import StorageSettings, load
from mlplatform.delivery import aws
from mlplatform.delivery.console import Console
from mlplatform.delivery.settings import DeliverySettings
from mlplatform.store.storage import Storage, open_storage

F = TypeVar("F", bound=Callable[..., Any])

ENVIRONMENTS = ("ghost", "staging", "production")


def console_option(function: F) -> F:
    """`--json`; the command gets `console`."""
    return click.option(
        "--json",
        "console",
        is_flag=True,
        callback=lambda context, parameter, value: Console(value),
        help="Print the result as JSON; progress goes to standard error.",
    )(function)


def store_option(function: F) -> F:
    """`--store URL`; the command gets `store`, opened."""
    return _store_option(open_store)(function)


def readable_store_option(function: F) -> F:
    """`--store URL`, for a command that only shows what is stored.

    Without AWS credentials it gets the store of this machine instead of one in S3, and says so.
    """
    return _store_option(_open_readable_store)(function)


def _store_option(opened: Callable[[str | None], Storage]) -> Callable[[F], F]:
    return click.option(
        "--store",
        metavar="URL",
        callback=lambda context, parameter, value: opened(value),
        help="Root of the store: a directory or s3://bucket/prefix.  [default: storage_url of [delivery]]",
    )


def dry_run_option(function: F) -> F:
    """`--dry-run`; the command gets `dry_run`."""
    return click.option("--dry-run", is_flag=True, help="Show what would be done, without doing it.")(function)


def environment_option(function: F) -> F:
    """`--environment`; the command gets `environment`."""
    return click.option(
        "--environment", required=True, type=click.Choice(ENVIRONMENTS), help="Environment in the cluster."
    )(function)


def open_store(url: str | None = None) -> Storage:
    """The store of the released models. Raises SettingsError or StorageError."""
    return open_storage(url or load(DeliverySettings).storage_url)


def _open_readable_store(url: str | None) -> Storage:
    if url:
        return open_store(url)
    settings, here = load(DeliverySettings), load(StorageSettings).url
    if settings.storage_url.startswith("s3:") and not here.startswith("s3:") and not aws.has_credentials():
        Console().say(f"no AWS credentials for {settings.storage_url}, so this is the store of this machine, {here}")
        return open_store(here)
    return open_store(settings.storage_url)
