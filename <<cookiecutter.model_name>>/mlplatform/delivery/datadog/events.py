"""Events in Datadog: every release, so that graphs show what was released just before they changed, and more."""

import os
from collections.abc import Sequence

import requests

from mlplatform.delivery.console import Console
from mlplatform.delivery.releases.history import DONE, Entry
from mlplatform.delivery.settings import DeliverySettings

SECONDS = 5


def tell(entry: Entry, service: str, settings: DeliverySettings, console: Console) -> None:
    """Post an entry of the history. See `send`."""
    environment = f"{entry.environment} ({entry.outcome})"
    send(
        entry.action,
        f"{service}: {entry.action} of {entry.model} to {environment}",
        f"by {entry.by}\n{entry.image}\n{entry.reason}".strip(),
        good=entry.outcome == DONE,
        key=f"{service}-{entry.environment}",
        tags=[
            f"service:{service}",
            # A ghost is in production's environment; its role tells it apart.
            f"env:{'production' if entry.environment == 'ghost' else entry.environment}",
            f"role:{'ghost' if entry.environment == 'ghost' else 'live'}",
            f"model_version:{entry.model}",
            f"action:{entry.action}",
            "managed-by:delivery",
        ],
        settings=settings,
        console=console,
    )


def send(
    command: str,
    title: str,
    text: str,
    *,
    good: bool,
    key: str,
    tags: Sequence[str],
    settings: DeliverySettings,
    console: Console,
) -> None:
    """Post an event if DD_API_KEY is set. A failure is only reported: the command does not fail for it.

    key: Datadog groups events that have the same. One request to
    https://docs.datadoghq.com/api/latest/events/#post-an-event-v1; the official client takes a second to load.
    """
    api_key = os.environ.get("DD_API_KEY")
    if not api_key:
        return
    event = {
        "title": title,
        "text": text,
        "alert_type": "info" if good else "error",
        "aggregation_key": key,
        "tags": list(tags),
    }
    url = settings.datadog_url or f"https://api.{settings.datadog_site}"
    try:
        answer = requests.post(f"{url}/api/v1/events", json=event, headers={"DD-API-KEY": api_key}, timeout=SECONDS)
        answer.raise_for_status()
    except requests.RequestException as error:
        console.say(f"{command}: the event could not be sent to Datadog: {error}")
