"""All that is served, in one table: Flask, the way around it, and the OpenAPI document are made from it."""

from collections.abc import Iterator
from typing import NamedTuple

from mlplatform.serving.ghost import message

_AT = {"": "", "version": "/versions/{version}", "label": "/labels/{label}"}


class Route(NamedTuple):
    """A method and a path with what answers them.

    view: the name of the function that answers, and of the operation that describes it, if it is in the document.
    path: `{model}` is the model's name, `{at}` the place where what is in `at` may be named. predicts: the protocol of
    a predict route.
    """

    method: str
    path: str
    view: str
    at: tuple[str, ...] = ()
    predicts: str = ""

    def paths(self, model: str) -> Iterator[tuple[str, str]]:
        """Its paths for this model, each with what is named in it: nothing, `version` or `label`."""
        for named in ("", *self.at):
            yield self.path.replace("{model}", model).replace("{at}", _AT[named]), named


_V1, _V2 = "/v1/models/{model}{at}", "/v2/models/{model}{at}"
_ANY, _VERSION = ("version", "label"), ("version",)

ROUTES = (
    Route("GET", "/", "index"),
    Route("GET", "/docs", "docs"),
    Route("GET", "/openapi.json", "document"),
    Route("GET", "/pages/{page}", "page"),
    Route("GET", "/v1/models", "models"),
    Route("GET", _V1, "status", _ANY),
    Route("GET", f"{_V1}/metadata", "metadata_v1", _ANY),
    Route("POST", f"{_V1}:predict", "predict", _ANY, predicts="v1"),
    Route("POST", "/v1/feedback", "feedback"),
    Route("GET", "/v2", "server_metadata"),
    Route("GET", _V2, "metadata_v2", _VERSION),
    Route("GET", f"{_V2}/ready", "model_ready", _VERSION),
    Route("POST", f"{_V2}/infer", "infer", _VERSION, predicts="v2"),
    Route("GET", "/v2/health/live", "live"),
    Route("GET", "/v2/health/ready", "ready"),
    Route("GET", "/metrics", "metrics"),
    Route("POST", message.PATH, "copies"),
)
