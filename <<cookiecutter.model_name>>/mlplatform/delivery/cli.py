"""The command line: one command a step."""

import os
from collections.abc import Sequence

import click

from mlplatform.config.settings import SettingsError
from mlplatform.contract.errors import ExitCode
from mlplatform.delivery.console import log_as_wanted, tell
from mlplatform.delivery.datadog.commands import datadog
from mlplatform.delivery.doctor import doctor
from mlplatform.delivery.errors import DeliveryError
from mlplatform.delivery.ghost.commands import feedback, ghost_report
from mlplatform.delivery.ghost.trial import ghost
from mlplatform.delivery.images.commands import bundle, image
from mlplatform.delivery.images.sbom import sbom
from mlplatform.delivery.jobs.commands import attach, train
from mlplatform.delivery.releases.deploy import deploy, rollback, status
from mlplatform.delivery.releases.gate import gate
from mlplatform.delivery.releases.history import history
from mlplatform.delivery.releases.models import models
from mlplatform.delivery.releases.promote import promote
from mlplatform.store.manifest import ArtifactError
from mlplatform.store.storage import StorageError
from mlplatform.telemetry import logs

COMMANDS: tuple[click.Command, ...] = (
    image,
    train,
    attach,
    models,
    gate,
    bundle,
    sbom,
    deploy,
    rollback,
    promote,
    status,
    history,
    ghost_report,
    feedback,
    ghost,
    datadog,
    doctor,
)


# A backspace keeps click from joining the lines of a paragraph.
HELP = """Deliver models: from training to production, one command a step, from a laptop or from Jenkins.

\b
exit codes: 0 done, 1 failed, 2 not understood or a setting is wrong,
  3 refused (a report is missing, nothing is published yet), 4 the gate is closed, 130 interrupted
"""


@click.group(help=HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
def cli() -> None:
    """The commands."""


for _command in COMMANDS:
    cli.add_command(_command)


def main(arguments: Sequence[str]) -> int:
    """Run a command with its arguments and return the exit code; what went wrong is said on standard error."""
    log_as_wanted()
    try:
        code = cli.main(list(arguments), prog_name="python -m mlplatform.delivery", standalone_mode=False)
        return int(code or ExitCode.DONE)
    except click.ClickException as error:
        if logs.wants_json(os.environ):
            tell(error.format_message())
        else:
            error.show()
        return ExitCode.BAD_REQUEST
    except (click.Abort, KeyboardInterrupt):
        tell("delivery: interrupted")
        return ExitCode.INTERRUPTED
    except SettingsError as error:
        tell(str(error))
        return ExitCode.BAD_REQUEST
    except DeliveryError as error:
        tell(f"delivery: {error}")
        return error.exit_code
    except (StorageError, ArtifactError) as error:
        tell(f"delivery: {error}")
        return ExitCode.FAILED
