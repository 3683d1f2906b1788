"""The limit of our worker: HTTP without a model. The body is parsed and answered with a constant.

From the environment: PORT.
"""

import os
import sys
from typing import Any

from environments import TEMPLATE

sys.path.insert(0, str(TEMPLATE))

import orjson

from mlplatform.config.settings import ServiceSettings
from mlplatform.serving.http.connection import Answer
from mlplatform.serving.server import Gunicorn
from mlplatform.serving.settings import ServingSettings

ANSWER = [[0.1] * 10]


class NoService:
    """What the worker wants of a service."""

    fatal = ""

    def stands_back(self) -> bool:
        return False

    def take_no_more(self) -> None: ...


class Nothing(Gunicorn):
    """Our server with another application in it, and nothing to load for it."""

    def load_config(self) -> None:
        super().load_config()
        self.cfg.set("post_worker_init", lambda worker: None)

    def load(self) -> Any:
        self.service = NoService()
        self.directly = directly
        return application


def directly(environ: dict[str, Any]) -> Answer | None:
    """As a predict request is answered."""
    if environ["REQUEST_METHOD"] == "GET":
        return None
    content = orjson.loads(environ["serving.connection"].read_body(8 << 20))
    body = orjson.dumps({"predictions": ANSWER * len(content["instances"])})
    return Answer("200 OK", [("Content-Type", "application/json")], body, lambda: None)


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    return [b"{}"]


os.environ["SERVICE_TOML"] = os.devnull
Nothing(ServingSettings(port=int(os.environ["PORT"])), ServiceSettings(name="nothing"), "").run()
