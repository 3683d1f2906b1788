"""`serve`: the server."""

import os
import socket
import sys

import click

from mlplatform.config.settings import ServiceSettings, SettingsError, TemplateSettings, load
from mlplatform.serving.settings import ServingSettings
from mlplatform.telemetry import agent, logs, traces


@click.command()
@click.option("--model", help="latest, a version, or the path of a directory with manifest.json")
@click.option("--host", help="address to listen on, such as 0.0.0.0")
@click.option("--port", help="port to listen on")
def serve(**options: str | None) -> int:
    """Serve a published model over HTTP until it is stopped.

    Ctrl-C stops at once; SIGTERM answers the requests that are under way first. Exit code 2: wrong settings, 1: the
    port is taken.
    """
    given = {name: value for name, value in options.items() if value is not None}
    try:
        settings = load(ServingSettings, given)
        service = load(ServiceSettings)
        template_version = load(TemplateSettings).version
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    fault = _cannot_listen(settings.host, settings.port)
    if fault:
        print(f"error: {fault}", file=sys.stderr)
        return 1
    if agent.takes_traces(os.environ) and not traces.under_ddtrace(os.environ):
        try:
            traces.restart("mlplatform", ["serve", *(f"--{name}={value}" for name, value in given.items())])
        except OSError as error:
            print(f"error: no ddtrace-run: {error.strerror}; install it or set DD_TRACE_ENABLED=false", file=sys.stderr)
            return 1
    if logs.wants_json(os.environ):
        logs.log_json(service.name)
    # Imported late: a wrong setting is told at once.
    from mlplatform.serving.server import Gunicorn

    Gunicorn(settings, service, template_version).run()
    return 0


def _cannot_listen(host: str, port: int) -> str:
    """Why the address is no good; gunicorn would try for five seconds and then say less."""
    try:
        with socket.create_server((host, port)):
            return ""
    except OSError as error:
        return f"cannot listen on {host}:{port}: {error.strerror or error}; set [serving] host and port, or --port"
