"""A message to a webhook of Slack or Teams, or of a service that takes what Slack takes, as Mattermost does.

https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks and
https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests

from mlplatform.delivery.errors import BadRequestError, DeliveryError

SECONDS = (5, 15)
# Webhooks of connectors, and of the workflows that replace them.
TEAMS = (".webhook.office.com", ".logic.azure.com", ".powerplatform.com")


@dataclass(frozen=True)
class Message:
    """A title, a text, and the page that tells more; empty if there is none."""

    title: str
    text: str
    link: str = ""


def post(url: str, message: Message) -> None:
    """Send a message. Raises BadRequestError or DeliveryError; neither names the URL, which is a secret."""
    host = urlsplit(url).hostname if url.startswith(("https://", "http://")) else None
    if not host:
        raise BadRequestError("NOTIFY_URL is no URL; must be https://..., as Slack or Teams shows it for a webhook")
    try:
        answer = requests.post(url, json=body(host, message), timeout=SECONDS)
    except requests.RequestException as error:
        raise DeliveryError(f"{host} was not reached ({type(error).__name__}), so nobody was told") from None
    if not answer.ok:
        raise DeliveryError(f"{host} answered {answer.status_code}: {answer.text[:200]}, so nobody was told")


def body(host: str, message: Message) -> dict[str, Any]:
    """The message as JSON, in the form that the service of a host takes."""
    return _card(message) if host.endswith(TEAMS) else _slack(message)


def _slack(message: Message) -> dict[str, Any]:
    link = f"\n<{message.link}|open the build>" if message.link else ""
    return {"text": f"*{_escaped(message.title)}*\n{_escaped(message.text)}{link}"}


def _escaped(text: str) -> str:
    """As Slack wants text that is no markup of its own."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _card(message: Message) -> dict[str, Any]:
    """An adaptive card of Teams."""
    blocks = [
        {"type": "TextBlock", "text": message.title, "weight": "Bolder", "wrap": True},
        {"type": "TextBlock", "text": message.text, "wrap": True},
    ]
    actions = [{"type": "Action.OpenUrl", "title": "Open the build", "url": message.link}] if message.link else []
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": blocks,
        "actions": actions,
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    return {"type": "message", "attachments": [attachment]}
