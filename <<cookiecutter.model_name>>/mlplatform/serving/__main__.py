"""Serve a model: `python -m mlplatform.serving`. Stop with Ctrl-C; SIGTERM drains first."""

import argparse
import os
import socket
import sys
from collections.abc import Sequence

from mlplatform.config.settings import ServiceSettings, SettingsError, TemplateSettings, load
from mlplatform.serving.settings import ServingSettings
from mlplatform.telemetry import agent, logs, traces


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server until it is stopped. Returns 2 for wrong settings, 1 if the port is taken."""
    parser = argparse.ArgumentParser(
        prog="python -m mlplatform.serving", description="Serve a published model over HTTP."
    )
    parser.add_argument("--model", help="latest, a version, or the path of a directory with manifest.json")
    parser.add_argument("--host", help="address to listen on, such as 0.0.0.0")
    parser.add_argument("--port", help="port to listen on")
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    try:
        settings = load(ServingSettings, given)
        name = load(ServiceSettings).name
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
            traces.restart("serving", sys.argv[1:] if arguments is None else arguments)
        except OSError as error:
            print(f"error: no ddtrace-run: {error.strerror}; install it or set DD_TRACE_ENABLED=false", file=sys.stderr)
            return 1
    if logs.wants_json(os.environ):
        logs.log_json(name)
    # Imported late: a wrong setting is told at once.
    from mlplatform.serving.server import Server

    Server(settings, name, template_version).run()
    return 0


def _cannot_listen(host: str, port: int) -> str:
    """Why the address is no good; gunicorn would try for five seconds and then say less."""
    try:
        with socket.create_server((host, port)):
            return ""
    except OSError as error:
        return f"cannot listen on {host}:{port}: {error.strerror or error}; set [serving] host and port, or --port"


if __name__ == "__main__":
    sys.exit(main())
