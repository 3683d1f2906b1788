"""`health`: whether the server of this container is ready."""

from http.client import HTTPConnection, HTTPException

import click

from mlplatform.config.settings import SettingsError, load
from mlplatform.serving.settings import ServingSettings

SECONDS = 3


@click.command()
def health() -> int:
    """Ask the server of this container whether it is ready: exit code 0 if it is, 1 with the reason if not."""
    try:
        port = load(ServingSettings).port
        connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        connection.request("GET", "/v2/health/ready")
        answer = connection.getresponse()
        print(answer.status, answer.read().decode(errors="replace").strip())
    except (SettingsError, OSError, HTTPException) as error:
        print(error)
        return 1
    return 0 if answer.status == 200 else 1
