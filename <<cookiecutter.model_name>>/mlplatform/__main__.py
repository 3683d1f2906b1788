"""`python -m mlplatform`: every command of the platform; `--help` lists them."""

import os
import sys

from mlplatform.cli import main
from mlplatform.contract.errors import ExitCode

if __name__ == "__main__":
    code = main()
    if code == ExitCode.STOPPED:
        # Not sys.exit: it waits for threads, and an upload to S3 in one of them may take minutes.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
