"""The command line of the pipeline, once a signal can stop it."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from mlplatform.config.settings import ServiceSettings, SettingsError, StorageSettings, load
from mlplatform.contract.errors import ExitCode, PipelineError
from mlplatform.contract.parameters import load_parameters, parameters_type
from mlplatform.store.manifest import ArtifactError
from mlplatform.store.models import overview
from mlplatform.store.storage import StorageError, open_storage
from mlplatform.telemetry import logs
from mlplatform.training import job
from mlplatform.training.metrics import TrainingMetrics
from mlplatform.training.run import gather, prepare_context, run
from mlplatform.training.stopping import Stop, Stopped

log = logging.getLogger(__name__)

COMMANDS = {
    "run": "gather data, train a model on it and publish it, as far as that is not done; the default",
    "gather": "only make a dataset version of the source data, and print it",
    "models": "list the published models and what they were made from",
}


def run_command(arguments: Sequence[str], stop: Stop) -> ExitCode:
    """Carry out a command and say what came of it. Raises Stopped if the process was told to stop."""
    named = bool(arguments) and arguments[0] in COMMANDS
    name, rest = (arguments[0], arguments[1:]) if named else ("run", arguments)
    try:
        parameters = load_parameters(_parse(name, rest))
        service, storage = load(ServiceSettings), open_storage(load(StorageSettings).url)
    except (SettingsError, StorageError) as error:
        print(error, file=sys.stderr)
        job.write_refusal(str(error))
        return ExitCode.BAD_REQUEST
    _log_to_stdout(service.name)
    metrics = TrainingMetrics.of(service.name) if name == "run" else TrainingMetrics()
    code = ExitCode.FAILED
    try:
        if name == "models":
            print(overview(storage))
        else:
            context = prepare_context(service, storage, parameters, stop, metrics)
            print(gather(context)) if name == "gather" else run(context)
        code = ExitCode.DONE
    except (PipelineError, StorageError, ArtifactError) as error:
        _tell(f"training: {error}")
        code = error.exit_code if isinstance(error, PipelineError) else ExitCode.FAILED
    except Stopped:
        code = ExitCode.STOPPED
        raise
    finally:
        metrics.ended(code)
    return code


def _tell(error: str) -> None:
    """Say what stopped the command: to a person, or as a line of the log."""
    if logs.wants_json(os.environ):
        log.error(error)
    else:
        print(error, file=sys.stderr)


def _log_to_stdout(service: str) -> None:
    if logs.wants_json(os.environ):
        logs.log_json(service)
    else:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stdout)
    # What the tasks do they say themselves; these would say it again, with tracebacks for what a person can mend.
    for name in ("luigi", "luigi-interface", "tensorflow", "absl"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors list what exists."""

    def error(self, message: str) -> NoReturn:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in parameters_type().model_fields)
        raise SettingsError(f"{self.prog}: {message}; there are: {names}")


def _parse(command: str, arguments: Sequence[str]) -> dict[str, Any]:
    commands = "\n".join(f"  {name:8}{text}" for name, text in COMMANDS.items())
    parser = _Parser(
        prog=f"python -m mlplatform.training {command}",
        description=COMMANDS[command],
        epilog=f"commands:\n{commands}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
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
