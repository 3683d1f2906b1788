"""What came of a training job: a JSON object in the store, written by the job and read by delivery.

    jobs/<job id>/result.json

Batch gives the id to the job in AWS_BATCH_JOB_ID. An attempt that ends replaces what an earlier one wrote. A job that a
signal stops writes nothing, as it must end in seconds; nor does one that is killed. Batch's exit code tells of those.
"""

import json
from dataclasses import asdict, dataclass

from mlplatform.contract.errors import ExitCode
from mlplatform.store.manifest import ArtifactError
from mlplatform.store.storage import MissingKeyError, Storage

JOB_VARIABLE = "AWS_BATCH_JOB_ID"
FORMAT = 1


@dataclass(frozen=True)
class JobResult:
    """How a training job ended.

    message: why it failed, empty if it did not. model: version of the model that the run led to, published now or
    before. report: key in the store of the run's report.html. reasons: why the gate is closed, as clauses.
    """

    exit_code: ExitCode
    message: str = ""
    model: str | None = None
    report: str | None = None
    reasons: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """UTF-8 JSON; `outcome` is the exit code in words."""
        value = {"format": FORMAT, "outcome": self.exit_code.name.lower(), **asdict(self)}
        return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"


def result_key(job: str) -> str:
    """Where the result of a job lies in the store."""
    return f"jobs/{job}/result.json"


def write_result(storage: Storage, job: str, result: JobResult) -> None:
    """Replace the result of a job. Raises StorageError."""
    storage.write(result_key(job), result.to_json())


def read_result(storage: Storage, job: str) -> JobResult | None:
    """The result of a job, or None if it wrote none. Raises StorageError or ArtifactError."""
    key = result_key(job)
    try:
        content = storage.read(key)
    except MissingKeyError:
        return None
    try:
        value = json.loads(content)
        if value["format"] != FORMAT:
            raise ValueError(f"format {value['format']!r}, this code reads {FORMAT}")
        return JobResult(
            exit_code=ExitCode(value["exit_code"]),
            message=str(value["message"]),
            model=value["model"],
            report=value["report"],
            reasons=tuple(str(reason) for reason in value["reasons"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{storage.url}/{key}: not the result of a job ({type(error).__name__}: {error})") from None
