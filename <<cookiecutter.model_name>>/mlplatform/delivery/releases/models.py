"""`models`: the published models, what each was made from, and which one is in production."""

from typing import Any

import click

from mlplatform.config.hints import hint
from mlplatform.delivery.console import Console
from mlplatform.delivery.options import console_option, readable_store_option
from mlplatform.store.manifest import Manifest
from mlplatform.store.models import list_models, table
from mlplatform.store.releases import production
from mlplatform.store.storage import Storage


@click.command()
@readable_store_option
@console_option
def models(store: Storage, console: Console) -> None:
    """List the published models: how good each is, what it was made from, what changed, which one is in production."""
    published = list_models(store, damaged=lambda error: console.say(f"models: left out: {error}"))
    live = production(store)
    text = (
        table(published, live) if published else f"no model in {store.url} yet; train the first one: {hint('submit')}"
    )
    console.result(text, [_described(model, model.id == live) for model in published])


def _described(model: Manifest, live: bool) -> dict[str, Any]:
    made_from = model.properties
    return {
        "version": model.id,
        "created_at": model.created_at,
        "production": live,
        "accuracy": made_from.get("metrics", {}).get("accuracy"),
        "mean_absolute_error": made_from.get("metrics", {}).get("mean_absolute_error"),
        **{name: made_from.get(name) for name in ("dataset", "code", "git_commit", "parameters", "packages", "run")},
    }
