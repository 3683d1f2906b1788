"""`python -m training`: run the pipeline."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from artifacts.settings import ServiceSettings, SettingsError, StorageSettings, load
from artifacts.storage import StorageError, open_storage
from training.errors import ExitCode, PipelineError
from training.parameters import load_parameters, parameters_type
from training.run import run

WORK = Path(".work")


def main(arguments: Sequence[str]) -> ExitCode:
    """Run the pipeline with command-line arguments and return how it ended."""
    try:
        parameters = load_parameters(_parse(arguments))
        service, storage = load(ServiceSettings), open_storage(load(StorageSettings).url)
    except (SettingsError, StorageError) as error:
        print(error, file=sys.stderr)
        return ExitCode.BAD_PARAMETERS
    _log_to_stdout()
    try:
        return run(service, storage, parameters, WORK)
    except (PipelineError, StorageError) as error:
        print(f"training: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, PipelineError) else ExitCode.FAILED


def _log_to_stdout() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stdout)
    # What the tasks do they say themselves; these would say it again, with tracebacks for what a person can mend.
    for name in ("luigi", "luigi-interface", "tensorflow", "absl"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors list what exists."""

    def error(self, message: str) -> Any:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in parameters_type().model_fields)
        raise SettingsError(f"{self.prog}: {message}; there are: {names}")


def _parse(arguments: Sequence[str]) -> dict[str, Any]:
    parser = _Parser(prog="python -m training", description="Train a model and publish it.", allow_abbrev=False)
    for name, field in parameters_type().model_fields.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            default=argparse.SUPPRESS,
            metavar=_metavar(field.annotation),
            help=f"{field.description or name} (default: {field.default!r})".replace("%", "%%"),
        )
    return vars(parser.parse_args(arguments))


def _metavar(annotation: Any) -> str:
    return {int: "N", float: "X", str: "TEXT", bool: "true|false"}.get(annotation, "VALUE")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
