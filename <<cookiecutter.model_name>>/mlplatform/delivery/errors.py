"""How a command ends other than well, and the exit code that tells."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of `python -m mlplatform.delivery`."""

    DONE = 0
    FAILED = 1
    BAD_REQUEST = 2
    # Nothing is broken: what was asked for may not be done, or not yet. The message says what comes first.
    REFUSED = 3
    INTERRUPTED = 130


class DeliveryError(Exception):
    """The command cannot be carried out; the message is for the person who gave it."""

    exit_code = ExitCode.FAILED


class BadRequestError(DeliveryError):
    """The command was not understood, or a setting is wrong."""

    exit_code = ExitCode.BAD_REQUEST


class RefusedError(DeliveryError):
    """The gate is closed, a report is missing, or there is nothing to deliver yet."""

    exit_code = ExitCode.REFUSED
