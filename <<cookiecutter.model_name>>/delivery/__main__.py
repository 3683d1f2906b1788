"""`python -m delivery`: one command a step."""

import argparse
import sys
from collections.abc import Sequence

from artifacts.manifest import ArtifactError
from artifacts.models import overview
from artifacts.settings import SettingsError, StorageSettings, load
from artifacts.storage import StorageError, open_storage


def main(arguments: Sequence[str]) -> int:
    """Run a command with its arguments and return the exit code: 0 done, 1 failed, 2 not understood."""
    parser = argparse.ArgumentParser(prog="python -m delivery", description="Deliver models.")
    commands = parser.add_subparsers(dest="command", required=True)
    models = commands.add_parser("models", help="list the published models: version, accuracy, what it was made from")
    models.add_argument("--store", metavar="URL", help="root of the store; default: [storage] url of service.toml")
    options = parser.parse_args(arguments)
    try:
        url = load(StorageSettings, {"url": options.store} if options.store else {}).url
        print(overview(open_storage(url)))
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    except (StorageError, ArtifactError) as error:
        print(f"delivery: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
