"""The command line: `python -m mlplatform COMMAND`.

A command's module is imported when the command runs, so `--help` needs none of them. TensorFlow takes seconds to start.
"""

import logging
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple, cast

import click

from mlplatform.config.hints import program
from mlplatform.contract.errors import CommandError, ExitCode
from mlplatform.contract.stopping import STOPPABLE, Stop, carry_out
from mlplatform.telemetry import logs


class Target(NamedTuple):
    """Where a command is, `module:attribute` below mlplatform, and its line in the list of commands."""

    path: str
    help: str


SECTIONS: dict[str, dict[str, Target]] = {
    "Train and serve on this machine": {
        "train": Target("training.command:train", "Train a model and publish it."),
        "gather": Target("training.command:gather", "Make a dataset version of the source data, and print it."),
        "data": Target("data.command:data", "Look at dataset versions: list, show, diff, report, remove."),
        "serve": Target("serving.command:serve", "Serve a published model over HTTP."),
        "verify": Target("serving.model.verify:verify", "Check a published model in a directory."),
        "doctor": Target("delivery.doctor:doctor", "Check what the commands need of this machine."),
    },
    "Release a model": {
        "image": Target("delivery.images.commands:image", "Build and push an image unless it is already there."),
        "submit": Target("delivery.jobs.commands:submit", "Train as a job of AWS Batch, and follow it."),
        "attach": Target("delivery.jobs.commands:attach", "Follow a job that was submitted before."),
        "stop-training": Target("delivery.jobs.commands:stop_training", "End a job that was submitted before."),
        "notify": Target("delivery.notify.commands:notify", "Tell people by a webhook and by an event in Datadog."),
        "models": Target("delivery.releases.models:models", "List the published models."),
        "gate": Target("delivery.releases.gate:gate", "Judge whether a model may be released."),
        "bundle": Target("delivery.images.commands:bundle", "Put a model into a serving image and push it."),
        "sbom": Target("delivery.images.sbom:sbom", "List what is installed in an image."),
        "deploy": Target("delivery.releases.deploy:deploy", "Roll a model version out."),
        "rollback": Target("delivery.releases.deploy:rollback", "Bring back the release before."),
        "promote": Target("delivery.releases.promote:promote", "Release the ghost's model to production."),
        "preview": Target("delivery.releases.preview:preview", "Show what a release to production would bring."),
        "status": Target("delivery.releases.deploy:status", "Show what runs in each environment."),
        "history": Target("delivery.releases.history:history", "List all releases."),
    },
    "Shadow deployment (ghost mode) and monitoring": {
        "ghost-report": Target("delivery.ghost.commands:ghost_report", "Compare the ghost with the live model."),
        "feedback": Target("delivery.ghost.commands:feedback", "Store true labels from a file."),
        "ghost": Target("delivery.ghost.trial:ghost", "Change the share of copied requests, or end the trial."),
        "datadog": Target("delivery.datadog.commands:datadog", "Bring dashboard, monitors and SLO to Datadog."),
    },
    "Inside images": {
        "health": Target("serving.health:health", "Check whether the server of this container is ready."),
        "ship-events": Target("ghost.ship:ship_events", "Ship prediction events from a spool to the store."),
        "metrics": Target("telemetry.command:metrics", "Print the page of all metrics."),
    },
}
COMMANDS = {name: target for section in SECTIONS.values() for name, target in section.items()}


class _Commands(click.Group):
    """A group whose commands are imported when they are needed."""

    def list_commands(self, context: click.Context) -> list[str]:
        """All names, in the order of the sections."""
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command of a name, imported now; None if there is none."""
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name].path.partition(":")
        command: click.Command = getattr(import_module(f"mlplatform.{module}"), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See click.Group, which knows no command that is not imported and so none to suggest."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(error.command_name, possibilities=COMMANDS, ctx=ctx) from None

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """The sections, without importing a command."""
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, target.help) for name, target in commands.items()])


def _print_version(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted:
        from mlplatform.config.settings import TemplateSettings, load

        click.echo(load(TemplateSettings).version or "unknown")
        context.exit()


def _print_completion(context: click.Context, option: click.Parameter, shell: str | None) -> None:
    if shell:
        from click.shell_completion import ShellComplete, get_completion_class

        source = cast(type[ShellComplete], get_completion_class(shell))(
            context.command, {}, "mlplatform", "_MLPLATFORM_COMPLETE"
        ).source()
        python = f"{sys.executable} -m mlplatform"
        click.echo(FUNCTIONS[shell].format(python=python))
        # click's scripts run the program that was typed by `env`, which finds no shell functions, and the one for zsh
        # looks for it among the programs.
        source = re.sub(rf"({shell}_complete)(.*?) ?(\$1|\bmlplatform)", rf"\1\2 {python}", source, count=1)
        click.echo(source.replace("$+commands[mlplatform]", "$+functions[mlplatform]"))
        context.exit()


# The function `mlplatform`, as each shell writes it.
FUNCTIONS = {
    "bash": 'mlplatform() {{ {python} "$@"; }}',
    "zsh": 'mlplatform() {{ {python} "$@"; }}',
    "fish": "function mlplatform; {python} $argv; end",
}

# A backspace keeps click from joining the lines of a paragraph.
HELP = """Train, serve and release a model, from a laptop or from Jenkins.

\b
exit codes: 0 done, 1 failed, 2 a parameter or setting is wrong, 3 refused or the data is not as the schema says,
  4 the gate is closed, 75 stopped and to be resumed, 130 interrupted
"""


@click.command(
    cls=_Commands, help=HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120}
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Print the template's version.",
)
@click.option(
    "--completion",
    type=click.Choice(["bash", "zsh", "fish"]),
    expose_value=False,
    is_eager=True,
    callback=_print_completion,
    help='Print a shell function `mlplatform` with completion: eval "$(... --completion bash)".',
)
def cli() -> None:
    """The commands."""


def main(arguments: Sequence[str] | None = None, stop: Stop | None = None) -> int:
    """Run a command with its arguments, by default the process's, and return the exit code.

    stop: what listens for signals already. Errors are printed on standard error.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] and words[0] in STOPPABLE:
        listening = stop or Stop(words[0])
        return carry_out(listening, lambda: _run(words, listening))
    return _run(words, None)


def _run(words: list[str], given: Any) -> int:
    """given: what the command gets as the context's object."""
    if "_MLPLATFORM_COMPLETE" in os.environ:
        return int(cli.main(words, prog_name="mlplatform", complete_var="_MLPLATFORM_COMPLETE") or 0)
    name = words[0] if words else ""
    if logs.wants_json(os.environ):
        _log_json()
    try:
        return int(cli.main(words, prog_name=program(), standalone_mode=False, obj=given) or ExitCode.DONE)
    except click.ClickException as error:
        if logs.wants_json(os.environ):
            _tell(error.format_message())
        else:
            error.show()
        return ExitCode.BAD_REQUEST
    except (click.Abort, KeyboardInterrupt):
        _tell(f"{name}: interrupted")
        return ExitCode.INTERRUPTED
    except Exception as error:
        code, message = _explained(error, name)
        if code is None:
            raise
        _tell(message)
        return code


def _explained(error: Exception, command: str) -> tuple[ExitCode | None, str]:
    """The exit code and the message of an error that a person can mend; no code for any other."""
    # Imported here, as they take half of the time that `--help` has.
    from mlplatform.config.settings import SettingsError
    from mlplatform.store.errors import StorageError
    from mlplatform.store.manifest import ArtifactError

    if isinstance(error, SettingsError):
        return ExitCode.BAD_REQUEST, str(error)
    if isinstance(error, CommandError):
        return error.exit_code, f"{command}: {error}"
    if isinstance(error, StorageError | ArtifactError):
        return ExitCode.FAILED, f"{command}: {error}"
    return None, ""


def _log_json() -> None:
    """Log to standard error until the command, such as the server, sets logging up for itself."""
    from mlplatform.config.settings import ServiceSettings, SettingsError, load

    try:
        service = load(ServiceSettings).name
    except SettingsError:
        # The command reports what is wrong.
        service = "mlplatform"
    logs.log_json(service, "stderr")
    # Progress that these log is not shown as text either.
    for name in ("botocore", "boto3", "urllib3", "kubernetes", "datadog_api_client"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _tell(message: str) -> None:
    """Print why a command ended, or log it where logs are JSON."""
    if logs.wants_json(os.environ):
        logging.getLogger("mlplatform").error(message)
    else:
        print(message, file=sys.stderr)
