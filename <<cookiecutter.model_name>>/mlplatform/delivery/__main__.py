"""`python -m mlplatform.delivery`: one command a step; `--help` lists them."""

import sys

from mlplatform.delivery.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
