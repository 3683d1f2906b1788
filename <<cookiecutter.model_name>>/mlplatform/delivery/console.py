"""A command's output: progress on standard error, the result on standard output.

Progress is text, or JSON objects as mlplatform/telemetry/logs.py decides.
"""

import json
import logging
import os
import sys
from dataclasses import dataclass
from typing import Any

from mlplatform.telemetry import logs

LOG = logging.getLogger("delivery")


@dataclass(frozen=True)
class Console:
    """Where a command writes; `as_json`: the result is one JSON value for a program instead of text."""

    as_json: bool = False

    def say(self, line: str, model_version: str | None = None) -> None:
        """A line of progress. model_version: which model it is about, for who filters the log."""
        if logs.wants_json(os.environ):
            LOG.info(line, extra={"model_version": model_version})
        else:
            print(line, file=sys.stderr, flush=True)

    def result(self, text: str, value: Any) -> None:
        """The command's result: `text` for a person, or `value` as JSON."""
        print(json.dumps(value, indent=1, ensure_ascii=False) if self.as_json else text, flush=True)
