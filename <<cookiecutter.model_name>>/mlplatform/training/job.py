"""The result of a training that runs as a job of AWS Batch; see mlplatform/contract/result.py."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mlplatform.config.settings import SettingsError, StorageSettings, load
from mlplatform.contract.errors import ExitCode, GateError, PipelineError
from mlplatform.contract.result import JOB_VARIABLE, JobResult, write_result
from mlplatform.contract.stopping import Stop
from mlplatform.store.manifest import ArtifactError
from mlplatform.store.storage import Storage, StorageError, open_storage

log = logging.getLogger(__name__)


def write(storage: Storage, result: JobResult) -> None:
    """Write the result into the store if this process is a job. A store that fails leaves the exit code as it is."""
    job = os.environ.get(JOB_VARIABLE)
    if not job:
        return
    try:
        write_result(storage, job, result)
    except StorageError as error:
        log.error("the job's result could not be written: %s", error)


def write_refusal(message: str) -> None:
    """Write that a parameter or setting is wrong, into the store of the settings unless that is what is wrong."""
    with suppress(SettingsError, StorageError):
        write(open_storage(load(StorageSettings).url), JobResult(ExitCode.BAD_REQUEST, message))


@contextmanager
def failure_written(storage: Storage, stop: Stop) -> Iterator[None]:
    """Write why this block failed, and let the exception pass. A signal that stops it leaves no result."""
    try:
        yield
    except Exception as error:
        if not stop.asked:
            write(storage, _failure(error))
        raise


def _failure(error: Exception) -> JobResult:
    if isinstance(error, GateError):
        message = f"{'; '.join(error.reasons)}; {error.outcome}"
        return JobResult(error.exit_code, message, report=error.report, reasons=error.reasons)
    if isinstance(error, PipelineError):
        return JobResult(error.exit_code, str(error))
    if isinstance(error, StorageError | ArtifactError):
        return JobResult(ExitCode.FAILED, str(error))
    return JobResult(ExitCode.FAILED, f"{type(error).__name__}: {error}")
