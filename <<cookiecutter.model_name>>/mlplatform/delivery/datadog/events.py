"""Every release as an event in Datadog, so that graphs show what was released just before they changed."""

import os

import requests

from mlplatform.delivery.console import Console
from mlplatform.delivery.releases.history import DONE, Entry
from mlplatform.delivery.settings import DeliverySettings

SECONDS = 5


def tell(entry: Entry, service: str, settings: DeliverySettings, console: Console) -> None:
    """Post an entry of the history if DD_API_KEY is set. A failure is only reported; the release does not fail for it.

    One request to https://docs.datadoghq.com/api/latest/events/#post-an-event-v1; the official client takes a second
    to load.
    """
    key = os.environ.get("DD_API_KEY")
    if not key:
        return
    environment = f"{entry.environment} ({entry.outcome})"
    event = {
        "title": f"{service}: {entry.action} of {entry.model} to {environment}",
        "text": f"by {entry.by}\n{entry.image}\n{entry.reason}".strip(),
        "alert_type": "info" if entry.outcome == DONE else "error",
        "aggregation_key": f"{service}-{entry.environment}",
        "tags": [
            f"service:{service}",
            # A ghost is in production's environment; its role tells it apart.
            f"env:{'production' if entry.environment == 'ghost' else entry.environment}",
            f"role:{'ghost' if entry.environment == 'ghost' else 'live'}",
            f"model_version:{entry.model}",
            f"action:{entry.action}",
            "managed-by:delivery",
        ],
    }
    url = settings.datadog_url or f"https://api.{settings.datadog_site}"
    try:
        answer = requests.post(f"{url}/api/v1/events", json=event, headers={"DD-API-KEY": key}, timeout=SECONDS)
        answer.raise_for_status()
    except requests.RequestException as error:
        console.say(f"{entry.action}: the event could not be sent to Datadog: {error}")
