"""`python -m delivery`: one command a step."""

import argparse
import sys
from collections.abc import Sequence

from artifacts.manifest import ArtifactError
from artifacts.settings import SettingsError, StorageSettings, load
from artifacts.storage import StorageError, open_storage
from delivery.models import list_models, table


def main(arguments: Sequence[str]) -> int:
    """Run a command with its arguments and return the exit code: 0 done, 1 failed, 2 not understood."""
    parser = argparse.ArgumentParser(prog="python -m delivery", description="Deliver models.")
    commands = parser.add_subparsers(dest="command", required=True)
    models = commands.add_parser("models", help="list the published models: version, accuracy, what it was made from")
    models.add_argument("--store", metavar="URL", help="root of the store; default: [storage] url of service.toml")
    options = parser.parse_args(arguments)
    try:
        print_models(options.store)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    except (StorageError, ArtifactError) as error:
        print(f"delivery: {error}", file=sys.stderr)
        return 1
    return 0


def print_models(store: str | None) -> None:
    """Print the models of a store."""
    url = load(StorageSettings, {"url": store} if store else {}).url
    storage = open_storage(url)
    models = list_models(storage)
    if not models:
        print(f"no model in {storage.url} yet; train the first one: nox -s train")
        return
    print(table(models))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
