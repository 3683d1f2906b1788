"""`python -m mlplatform`: every command of the platform; `--help` lists them."""

import os
import sys

from mlplatform.contract.errors import ExitCode
from mlplatform.contract.stopping import STOPPABLE, Stop

if __name__ == "__main__":
    stop = Stop(sys.argv[1]) if sys.argv[1:2] and sys.argv[1] in STOPPABLE else None
    if stop:
        # Before anything that takes time is imported: told to stop while it starts, a training has stopped, too.
        stop.listen()
    from mlplatform.cli import main

    code = main(stop=stop)
    if code == ExitCode.STOPPED:
        # Not sys.exit: it waits for threads, and an upload to S3 in one of them may take minutes.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
