"""The process that trains: how a signal ends it, from its first moment on."""

import sys
from collections.abc import Callable

from mlplatform.config.hints import hint
from mlplatform.contract.errors import ExitCode
from mlplatform.training.stopping import Stop, Stopped


def stoppable(run: Callable[[Stop], int]) -> int:
    """Run a command that SIGTERM and Ctrl-C stop, and return its exit code.

    Everything that takes time, TensorFlow's start above all, happens in `run`, so that a signal always ends it the
    same way.
    """
    stop = Stop()
    try:
        with stop.listening():
            return run(stop)
    except Stopped:
        print(f"train: stopped; the same command resumes this run: {hint('train')}", file=sys.stderr)
        return ExitCode.STOPPED
