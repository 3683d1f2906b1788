"""Runs commands of delivery that are stopped at a step, each in a process of its own.

A line of standard input is `{"signal": "SIGKILL", "step": 7, "arguments": ["deploy", ...]}`; the answer is a line with
the exit code, negative for a signal, and whether the step was reached: `[-9, true]`. A step is a question to kubectl or
a change to the store, by its number or its first words; the signal comes before it. Processes are forked, as imports
take longer than a command.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from mlplatform import cli
from mlplatform.delivery import programs
from mlplatform.delivery.ghost import trial
from mlplatform.delivery.releases import deploy, promote
from mlplatform.store.local import LocalStorage

IMPORTED = (deploy, promote, trial)
STORE = ("create", "replace", "write", "delete")


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        reached, reaches = os.pipe()
        if (child := os.fork()) == 0:
            os.close(reached)
            os.dup2(2, 1)
            stop_at(asked["step"], signal.Signals[asked["signal"]], reaches)
            os._exit(cli.main(asked["arguments"]))
        os.close(reaches)
        _, status = os.waitpid(child, 0)
        with os.fdopen(reached, "rb") as pipe:
            print(json.dumps([os.waitstatus_to_exitcode(status), bool(pipe.read())]), flush=True)


def stop_at(step: int | str, number: signal.Signals, reaches: int) -> None:
    """This process sends itself a signal before one of its steps, and says so."""
    steps = list[str]()

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counts(*arguments: Any, **options: Any) -> Any:
            text = " ".join([name, *(argument for argument in arguments if isinstance(argument, str))])
            # The sign of life is written by a thread, at any time.
            if not text.endswith(".alive"):
                steps.append(text)
                if step == len(steps) or (isinstance(step, str) and text.startswith(step)):
                    os.write(reaches, b"x")
                    os.kill(os.getpid(), number)
            return function(*arguments, **options)

        return counts

    for name in ("output", "port_forward"):
        setattr(programs, name, counted(name, getattr(programs, name)))
    for name in STORE:
        setattr(LocalStorage, name, counted(name, getattr(LocalStorage, name)))


if __name__ == "__main__":
    main()
