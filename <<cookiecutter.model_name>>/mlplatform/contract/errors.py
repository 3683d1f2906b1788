"""How a run ends other than well, and the exit code that tells."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of `python -m mlplatform.training`."""

    DONE = 0
    FAILED = 1
    BAD_PARAMETERS = 2
    BAD_DATA = 3
    GATE_FAILED = 4
    # EX_TEMPFAIL of sysexits.h: told to stop; started again, the run goes on where it was.
    STOPPED = 75


class PipelineError(Exception):
    """The run cannot go on; the message is for the person who started it."""

    exit_code = ExitCode.FAILED


class BadDataError(PipelineError):
    """The source data is not what `model.RECORD` says."""

    exit_code = ExitCode.BAD_DATA


class GateError(PipelineError):
    """The model was trained and evaluated, and is not good enough to be published."""

    exit_code = ExitCode.GATE_FAILED
