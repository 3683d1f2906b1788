"""What a command says: progress to standard error, its result to standard output."""

import json
import sys
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Console:
    """Where a command speaks to; `as_json`: the result is one JSON value for a program instead of text."""

    as_json: bool = False

    def say(self, line: str) -> None:
        """A line of progress."""
        print(line, file=sys.stderr, flush=True)

    def result(self, text: str, value: Any) -> None:
        """The command's result: `text` for a person, or `value` as JSON."""
        print(json.dumps(value, indent=1, ensure_ascii=False) if self.as_json else text, flush=True)
