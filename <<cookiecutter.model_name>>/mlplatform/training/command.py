"""`train` and `gather`: the commands of the pipeline."""

from typing import Any

import click

from mlplatform.config.settings import ServiceSettings, SettingsError, StorageSettings, load
from mlplatform.contract import team_code
from mlplatform.contract.options import parameter_options
from mlplatform.contract.parameters import criteria_of, load_parameters, parameters_type, target
from mlplatform.contract.stopping import Stop
from mlplatform.data.settings import DataSettings
from mlplatform.store.storage import StorageError, open_storage
from mlplatform.training import job


class _Pipeline(click.Command):
    """A command with an option for each parameter of the training. A wrong one is also the result of a Batch job."""

    def get_params(self, context: click.Context) -> list[click.Parameter]:
        """Its own options, then the training's."""
        try:
            parameters = parameters_type()
        except ModuleNotFoundError as error:
            raise SettingsError(f"{team_code.place(error) or 'model'}: {error}") from error
        return [*super().get_params(context), *parameter_options(parameters)]

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """See click.Command."""
        try:
            return super().parse_args(context, args)
        except click.UsageError as error:
            job.write_refusal(error.format_message())
            raise
        except SettingsError as error:
            job.write_refusal(str(error))
            raise


@click.command(cls=_Pipeline)
@click.pass_obj
def train(stop: Stop, /, **parameters: str | None) -> int:
    """Train a model on this machine and publish it, if it passes the gate.

    A run resumes at the first unfinished step; a finished run is a no-op. Every parameter is an option, an environment
    variable TRAINING_... and a key of [training] in service.toml.
    """
    return _carry_out("train", stop, parameters)


@click.command(cls=_Pipeline)
@click.pass_obj
def gather(stop: Stop, /, **parameters: str | None) -> int:
    """Make a dataset version of the source data, and print it."""
    return _carry_out("gather", stop, parameters)


def _carry_out(command: str, stop: Stop, arguments: dict[str, Any]) -> int:
    try:
        parameters = load_parameters({name: value for name, value in arguments.items() if value is not None})
        criteria = target().fitted(criteria_of(parameters))
        service, storage = load(ServiceSettings), open_storage(load(StorageSettings).url)
        # Read where a dataset is made; a wrong one is refused here, before that takes its time.
        load(DataSettings)
    except (SettingsError, StorageError) as error:
        job.write_refusal(str(error))
        raise SettingsError(str(error)) from None
    # Imported when the settings are right: this imports TensorFlow, which takes seconds to start.
    from mlplatform.training.pipeline import run_command

    return run_command(command, service, storage, parameters, criteria, stop)
