"""Logs as one JSON object a line, which Datadog reads without rules of its own; on a terminal, as text.

The attributes are Datadog's standard ones: https://docs.datadoghq.com/logs/log_configuration/attributes_naming_convention
"""

import json
import logging
import logging.config
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

FIELDS = (
    "request_id",
    "model_version",
    "run_id",
    "http.method",
    "http.url_details.path",
    "http.status_code",
    "duration",
    "rows",
    "outcome",
)
"""What a record may carry as `extra` besides its message. Never a request's body or an instance."""
_TRACE_FIELDS = ("dd.trace_id", "dd.span_id", "dd.service", "dd.env", "dd.version")


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._constant = {"dd.service": service} | {
            f"dd.{name}": value
            for name in ("env", "service", "version")
            if (value := os.environ.get(f"DD_{name}".upper()))
        }

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter. Values that JSON does not know become text."""
        at = datetime.fromtimestamp(record.created, UTC)
        content: dict[str, Any] = {
            "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "status": record.levelname.lower(),
            "message": record.getMessage(),
            "logger.name": record.name,
            **self._constant,
        }
        given = vars(record)
        # ddtrace puts these on every record, "0" or empty where there is no span or no such setting.
        content |= {name: given[name] for name in _TRACE_FIELDS if given.get(name) not in (None, "", "0")}
        content |= {name: given[name] for name in FIELDS if given.get(name) is not None}
        # A trace that is made afterwards is named by whoever logs.
        content |= {f"dd.{name}": given[name] for name in ("trace_id", "span_id") if given.get(name)}
        if record.exc_info and record.exc_info[0]:
            content["error.kind"] = record.exc_info[0].__name__
            content["error.message"] = str(record.exc_info[1])
            content["error.stack"] = self.formatException(record.exc_info)
        return json.dumps(content, ensure_ascii=False, default=str)


def wants_json(environment: Mapping[str, str]) -> bool:
    """LOG_FORMAT if it says json or text; else whether this runs where Datadog is: an agent is named."""
    chosen = environment.get("LOG_FORMAT", "").strip().lower()
    if chosen in ("json", "text"):
        return chosen == "json"
    return any(environment.get(name) for name in ("DD_AGENT_HOST", "DD_DOGSTATSD_URL", "DD_TRACE_AGENT_URL", "DD_ENV"))


def json_config(service: str, stream: str = "stdout") -> dict[str, Any]:
    """For logging.config.dictConfig, and as gunicorn's logconfig_dict: everything to one stream, nothing twice."""
    plain = {"handlers": [], "propagate": True}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "mlplatform.telemetry.logs.JsonFormatter", "service": service}},
        "handlers": {"json": {"class": "logging.StreamHandler", "formatter": "json", "stream": f"ext://sys.{stream}"}},
        "root": {"level": "INFO", "handlers": ["json"]},
        "loggers": {"gunicorn.error": {"level": "INFO", **plain}, "gunicorn.access": {"level": "INFO", **plain}},
    }


def log_json(service: str, stream: str = "stdout") -> None:
    """Make this process log as JSON: records, warnings, and the exception that ends it. stream: stdout or stderr."""
    logging.config.dictConfig(json_config(service, stream))
    logging.captureWarnings(True)
    sys.excepthook = _log_exception


def _log_exception(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    logging.getLogger(__name__).critical("ended by %s", kind.__name__, exc_info=(kind, error, traceback))
