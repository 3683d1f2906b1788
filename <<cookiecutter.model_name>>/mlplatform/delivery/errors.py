"""The errors that end a command, each with its exit code."""

from mlplatform.contract.errors import CommandError, ExitCode


class DeliveryError(CommandError):
    """A command of delivery failed."""


class BadRequestError(DeliveryError):
    """The command was not understood, or a setting is wrong."""

    exit_code = ExitCode.BAD_REQUEST


class RefusedError(DeliveryError):
    """Something is missing that must come first: an image, a report, a first model. The message names it."""

    exit_code = ExitCode.REFUSED


class UnderWayError(RefusedError):
    """Another release is under way, or being finished, by another command."""


class GateClosedError(DeliveryError):
    """The gate is closed for the model."""

    exit_code = ExitCode.GATE_CLOSED


class StoppedError(DeliveryError):
    """A signal stopped the command; the message says what became of what it had begun."""

    exit_code = ExitCode.INTERRUPTED
