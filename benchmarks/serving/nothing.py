"""The limit of our worker: HTTP without a model. A bare WSGI application parses the body and answers with a constant.

From the environment: PORT.
"""

import os
import sys
from typing import Any

from environments import TEMPLATE

sys.path.insert(0, str(TEMPLATE))

import orjson

from mlplatform.serving.server import Server
from mlplatform.serving.settings import ServingSettings

ANSWER = [[0.1] * 10]


class NoService:
    """What the worker wants of a service."""

    fatal = ""


class Nothing(Server):
    """Our server with another application in it, and nothing to load for it."""

    def load_config(self) -> None:
        super().load_config()
        self.cfg.set("post_worker_init", lambda worker: None)

    def load(self) -> Any:
        self.service = NoService()
        return application


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    if environ["REQUEST_METHOD"] == "GET":
        body = b"{}"
    else:
        content = orjson.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        environ["serving.connection"].body_read()
        body = orjson.dumps({"predictions": ANSWER * len(content["instances"])})
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


os.environ["SERVICE_TOML"] = os.devnull
Nothing(ServingSettings(port=int(os.environ["PORT"])), "nothing", "").run()
