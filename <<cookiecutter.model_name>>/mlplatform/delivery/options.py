"""Options that several commands share, each as a decorator."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from mlplatform.config.settings import load
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
    return click.option(
        "--store",
        metavar="URL",
        callback=lambda context, parameter, value: open_store(value),
        help="Root of the store: a directory or s3://bucket/prefix.  [default: storage_url of [delivery]]",
    )(function)


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
