"""`python -m mlplatform.training`: from source data to a published model. `--help` lists commands and parameters."""

import os
import sys
from collections.abc import Sequence

from mlplatform.contract.errors import ExitCode
from mlplatform.training.stopping import Stop, Stopped


def main(arguments: Sequence[str]) -> ExitCode:
    """Carry out a command of the pipeline and return how it ended."""
    stop = Stop()
    try:
        with stop.listening():
            # Imported late: TensorFlow takes seconds to start, and a signal in that time must end in the same way.
            from mlplatform.training.command import run_command

            return run_command(arguments, stop)
    except Stopped:
        print("training: stopped; the same command goes on where this one was", file=sys.stderr)
        return ExitCode.STOPPED


if __name__ == "__main__":
    code = main(sys.argv[1:])
    if code is ExitCode.STOPPED:
        # Not sys.exit: it waits for threads, and what one of them sends to S3 may take minutes.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
