"""`notify`: tell people what happened in the job, or waits for them."""

import os

import click

from mlplatform.config.settings import ServiceSettings, load
from mlplatform.delivery.console import Console
from mlplatform.delivery.datadog import events
from mlplatform.delivery.notify import webhook
from mlplatform.delivery.options import console_option
from mlplatform.delivery.settings import DeliverySettings

# What messages are about, and whether it is good news.
OCCASIONS = {"failure": False, "approval": True, "no-approval": False, "ghost-verdict": True, "training": True}
URL = "NOTIFY_URL"


@click.command()
@click.argument("occasion", type=click.Choice(list(OCCASIONS)))
@click.argument("text")
@console_option
def notify(occasion: str, text: str, console: Console) -> None:
    """Tell people TEXT by the webhook in NOTIFY_URL, of Slack or Teams, and as an event in Datadog with DD_API_KEY.

    Without NOTIFY_URL no message is sent, and nothing fails. In a build of Jenkins the message links to it.
    """
    name, settings = load(ServiceSettings).name, load(DeliverySettings)
    url, build = os.environ.get(URL, ""), os.environ.get("BUILD_URL", "")
    title = f"{name}: {occasion.replace('-', ' ')}"
    events.send(
        "notify",
        title,
        f"{text}\n{build}".strip(),
        good=OCCASIONS[occasion],
        key=f"{name}-{occasion}",
        tags=[f"service:{name}", f"occasion:{occasion}", "managed-by:delivery"],
        settings=settings,
        console=console,
    )
    if url:
        webhook.post(url, webhook.Message(title, text, build))
    said = "told" if url else f"nobody was told: {URL} is not set"
    console.result(said, {"occasion": occasion, "told": bool(url)})
