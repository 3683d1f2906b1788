"""How a command ends if not well: exit codes, and the errors of the pipeline that lead to them."""

from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command, and so of a training job."""

    DONE = 0
    FAILED = 1
    # The command was not understood, or a parameter or setting is wrong.
    BAD_REQUEST = 2
    # Nothing is broken. Something else comes first, and the message names it: the data has to fit the schema, an image
    # has to be built, a report has to be made.
    REFUSED = 3
    # The model was trained and evaluated, and is not good enough.
    GATE_CLOSED = 4
    # EX_TEMPFAIL of sysexits.h: a signal stopped the run; the same command resumes it.
    STOPPED = 75
    INTERRUPTED = 130


class CommandError(Exception):
    """A command failed; the message is for the person who gave it."""

    exit_code = ExitCode.FAILED


class PipelineError(CommandError):
    """The run cannot continue."""


class BadDataError(PipelineError):
    """The source data does not fit `model.RECORD`."""

    exit_code = ExitCode.REFUSED


class GateError(PipelineError):
    """The model was trained and evaluated, and is not good enough to be published.

    reasons: clauses without a full stop. outcome: what becomes of the model, likewise. report: key of report.html in
    the store, `place` its URL.
    """

    exit_code = ExitCode.GATE_CLOSED

    def __init__(self, reasons: Sequence[str], outcome: str, report: str, place: str) -> None:
        super().__init__(f"{'; '.join(reasons)}; {outcome}\n  report {place}")
        self.reasons = tuple(reasons)
        self.outcome = outcome
        self.report = report
