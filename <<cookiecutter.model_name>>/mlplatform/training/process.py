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
            code = run(stop)
    except Stopped:
        code = ExitCode.STOPPED
    # A signal within native code reaches Python as another exception: pybind makes a RuntimeError of Stopped.
    except Exception:
        if not stop.asked:
            raise
        code = ExitCode.STOPPED
    if stop.asked and code in (ExitCode.FAILED, ExitCode.STOPPED):
        print(f"train: stopped; the same command resumes this run: {hint('train')}", file=sys.stderr)
        return ExitCode.STOPPED
    return code
