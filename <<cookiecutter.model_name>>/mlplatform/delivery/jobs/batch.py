"""Jobs of AWS Batch: submitting one, following it through its attempts, and why it failed, in words."""

import hashlib
import json
import string
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from mlplatform.config.hints import hint
from mlplatform.contract.errors import ExitCode
from mlplatform.delivery import aws
from mlplatform.delivery.console import Console
from mlplatform.delivery.errors import BadRequestError, DeliveryError, RefusedError
from mlplatform.delivery.settings import DeliverySettings

ENDED = ("SUCCEEDED", "FAILED")
# Where Batch logs to if the job definition names nothing else.
LOG_GROUP = "/aws/batch/job"
# Of a failed job's log that much is repeated.
LAST_LINES = 20
# CloudWatch has the last lines of a job some seconds after its end: the log is complete once that many looks in a row
# show nothing new.
QUIET_LOOKS = 2
# How long a job may wait for machines in all, beyond what its attempts may take.
WAITING_HOURS = 24
# The parameter of a job that holds what it was submitted with, by digest.
SUBMISSION = "submission"
# As many jobs one call describes.
MOST_DESCRIBED = 100
# A container that the kernel or Docker killed: 128 + SIGKILL.
KILLED = 137
EXPLAINED: Mapping[int, str] = {
    ExitCode.BAD_REQUEST: "a parameter or setting is wrong",
    ExitCode.REFUSED: "the data is not what model/dataset.py says",
    ExitCode.GATE_CLOSED: "the gate is closed: the model is not good enough to be published",
    ExitCode.STOPPED: "it was told to stop, each time; submit it again: it resumes from its last checkpoint",
}


@dataclass(frozen=True)
class Submission:
    """What a job is submitted with. environment: beside that of the job definition."""

    name: str
    image: str
    environment: Mapping[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 in hex of all of it: jobs of the same digest would be the same training."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Running:
    """A job that has not ended. log_from: where its log goes on, for `follow`, in ms since 1970."""

    job: Mapping[str, Any]
    log_from: int


@dataclass
class Ended:
    """A job that ended: as Batch describes it, its exit code if a container ran, the last lines of its log."""

    job: Mapping[str, Any]
    exit_code: int | None
    lines: list[str] = field(default_factory=list)

    @property
    def succeeded(self) -> bool:
        """Whether the job ended well."""
        return bool(self.job["status"] == "SUCCEEDED")

    def explain(self) -> str:
        """Why it failed, in words, and what to do."""
        return explain(self.job, self.exit_code)


class Batch:
    """The queue that the settings name. Every call raises DeliveryError."""

    def __init__(self, settings: DeliverySettings, console: Console) -> None:
        self._settings = settings
        self._console = console
        self._batch = aws.client("batch", settings.aws_region)
        self._logs = aws.client("logs", settings.aws_region)

    def check_queue(self) -> None:
        """Raise RefusedError if there is no such queue, or it takes no jobs."""
        name, region = self._settings.batch_job_queue, self._settings.aws_region
        with aws.told(f"job queue {name}"):
            queues = self._batch.describe_job_queues(jobQueues=[name])["jobQueues"]
        if not queues:
            raise RefusedError(
                f"there is no job queue {name!r} in {region}; the first lines of deploy/aws/stack.yaml say how to make "
                "it, or correct batch_job_queue of [delivery]"
            )
        if queues[0]["state"] != "ENABLED":
            raise RefusedError(f"the job queue {name!r} in {region} is {queues[0]['state'].lower()} and takes no jobs")

    def definition(self, image: str) -> dict[str, Any]:
        """The job definition of the repository, for an image and the account that the credentials belong to."""
        path = Path(self._settings.job_definition)
        try:
            template = string.Template(path.read_text(encoding="utf-8"))
        except OSError:
            raise BadRequestError(
                f"delivery.job_definition = {str(path)!r}: no such file; run from the repository's root"
            ) from None
        with aws.told("AWS account"):
            caller = aws.client("sts", self._settings.aws_region).get_caller_identity()
        try:
            filled = template.substitute(IMAGE=image, ACCOUNT=caller["Account"], PARTITION=caller["Arn"].split(":")[1])
            definition: dict[str, Any] = json.loads(filled)
        except (KeyError, ValueError) as error:
            raise BadRequestError(
                f"{path}: must be JSON with no placeholders but ${{IMAGE}}, ${{ACCOUNT}} and ${{PARTITION}}: {error}"
            ) from None
        return definition

    def submit(self, submission: Submission, machines: int = 0) -> str:
        """Register a revision of the job definition for the image, submit a job, and return its id.

        machines: if any, an array job of so many goes before it, whose children check the source's files.
        """
        definition = self.definition(submission.image)
        with aws.told(f"job definition {definition.get('jobDefinitionName')}"):
            # An image can't be overridden when a job is submitted.
            registered = self._batch.register_job_definition(**definition)
        self._console.say(f"job: job definition {registered['jobDefinitionName']}:{registered['revision']}")
        before: list[dict[str, str]] = []
        if machines:
            # By another name, so that `under_way` does not take it for the training.
            checking = self._submit(
                submission, f"{submission.name}-check", registered, {"arrayProperties": {"size": machines}}
            )
            self._console.say(f"job: {checking} checks the source on {machines} machines")
            before = [{"jobId": checking}]
        return self._submit(submission, submission.name, registered, {"dependsOn": before})

    def _submit(self, submission: Submission, name: str, definition: Mapping[str, Any], more: Mapping[str, Any]) -> str:
        environment = [{"name": name, "value": value} for name, value in sorted(submission.environment.items())]
        with aws.told(f"job queue {self._settings.batch_job_queue}"):
            job = self._batch.submit_job(
                jobName=name,
                jobQueue=self._settings.batch_job_queue,
                jobDefinition=definition["jobDefinitionArn"],
                containerOverrides={"environment": environment},
                # No placeholder of the job definition: `under_way` knows the job by it.
                parameters={SUBMISSION: submission.digest},
                timeout={"attemptDurationSeconds": int(self._settings.training_hours * 3600)},
                **more,
            )
        return str(job["jobId"])

    def under_way(self, submission: Submission) -> str | None:
        """The id of a job that was submitted with the same and has not ended, or None."""
        named = {"name": "JOB_NAME", "values": [submission.name]}
        with aws.told(f"job queue {self._settings.batch_job_queue}"):
            pages = self._batch.get_paginator("list_jobs").paginate(
                jobQueue=self._settings.batch_job_queue, filters=[named]
            )
            listed = [job["jobId"] for page in pages for job in page["jobSummaryList"] if job["status"] not in ENDED]
            for ids in (listed[start : start + MOST_DESCRIBED] for start in range(0, len(listed), MOST_DESCRIBED)):
                for job in self._batch.describe_jobs(jobs=ids)["jobs"]:
                    if job.get("parameters", {}).get(SUBMISSION) == submission.digest:
                        return str(job["jobId"])
        return None

    def describe(self, job_id: str) -> dict[str, Any]:
        """The job as it is."""
        with aws.told(f"job {job_id}"):
            jobs = self._batch.describe_jobs(jobs=[job_id])["jobs"]
        if not jobs:
            raise DeliveryError(
                f"job {job_id}: not known in {self._settings.aws_region}; Batch forgets a job some days after its end"
            )
        job: dict[str, Any] = jobs[0]
        return job

    def terminate(self, job_id: str, reason: str) -> None:
        """End a job, wherever it is, and those that it waits for."""
        waits_for = [check["jobId"] for check in self._checks(self.describe(job_id)) if check["status"] not in ENDED]
        for each in (job_id, *waits_for):
            with aws.told(f"job {each}"):
                self._batch.terminate_job(jobId=each, reason=reason)

    def follow(self, job_id: str, seconds: float | None = None, log_from: int = 0) -> Ended | Running:
        """Show a job's status and log until it ends; a new attempt's log follows the one before.

        seconds: return after so long if the job has not ended by then. log_from: what is older is not shown.
        Raises DeliveryError also if the job is older than all its attempts together may become.
        """
        log, shown, attempts = _Log(self._logs, self._console, log_from), "", 0
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            job = self.describe(job_id)
            log.read(job)
            before = job.get("attempts", [])
            if job["status"] not in ENDED and len(before) > attempts and job["status"] != "RUNNING":
                attempts = len(before)
                self._console.say(f"job: {_attempt(job, attempts)}")
            status = " ".join(filter(None, [job["status"], job.get("statusReason")]))
            status = f"{status.lower() if status.isupper() else status}{self._checked(job)}"
            if status != shown:
                shown = status
                self._console.say(f"job: {status}")
            if job["status"] in ENDED:
                # Without an attempt, it may be one of the machines before it that failed.
                failed = None if before else self._failed_check(job)
                if failed is not None:
                    return self.follow(failed, log_from=log_from)
                self._read_to_the_end(job, log)
                return Ended(job, self._exit_code(job), list(log.lines))
            _check_age(job)
            if end is not None and time.monotonic() >= end:
                return Running(job, log.next_time)
            time.sleep(self._settings.poll_seconds)

    def _checks(self, job: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The array jobs that a job waits for, or waited for."""
        return [self.describe(before["jobId"]) for before in job.get("dependsOn", [])]

    def _checked(self, job: Mapping[str, Any]) -> str:
        """How far the machines are that a job waits for; empty if it waits for none."""
        if job["status"] != "PENDING":
            return ""
        arrays = [check["arrayProperties"] for check in self._checks(job) if "arrayProperties" in check]
        done = sum(array["statusSummary"].get("SUCCEEDED", 0) for array in arrays)
        machines = sum(array["size"] for array in arrays)
        return f", {done} of {machines} machines have checked their files" if machines else ""

    def _failed_check(self, job: Mapping[str, Any]) -> str | None:
        """The id of a machine's job that failed, if that is why a job was not started."""
        for check in self._checks(job) if job["status"] == "FAILED" else []:
            with aws.told(f"job {check['jobId']}"):
                failed = self._batch.list_jobs(arrayJobId=check["jobId"], jobStatus="FAILED")["jobSummaryList"]
            if failed:
                return str(failed[0]["jobId"])
        return None

    def _read_to_the_end(self, job: Mapping[str, Any], log: "_Log") -> None:
        quiet = 0
        while quiet < QUIET_LOOKS:
            time.sleep(self._settings.poll_seconds)
            quiet = 0 if log.read(job) else quiet + 1

    def _exit_code(self, job: Mapping[str, Any]) -> int | None:
        containers = [
            job.get("container", {}),
            *(attempt.get("container", {}) for attempt in job.get("attempts", [])[-1:]),
        ]
        for container in containers:
            if "exitCode" in container:
                return int(container["exitCode"])
        # Some answers hold it only in the list of jobs.
        with aws.told(f"job {job['jobId']}"):
            listed = self._batch.list_jobs(jobQueue=job["jobQueue"], jobStatus=job["status"])["jobSummaryList"]
        codes = [summary.get("container", {}).get("exitCode") for summary in listed if summary["jobId"] == job["jobId"]]
        return int(codes[0]) if codes and codes[0] is not None else None


class _Log:
    """The log of a job: a stream of CloudWatch for each attempt; each look shows what is new since the last."""

    def __init__(self, logs: Any, console: Console, start: int) -> None:
        self.lines: deque[str] = deque(maxlen=LAST_LINES)
        # The time of the newest line that was shown, plus 1 ms.
        self.next_time = start
        self._start = start
        self._logs = logs
        self._console = console
        self._tokens: dict[str, str] = {}

    def read(self, job: Mapping[str, Any]) -> bool:
        """Show the new lines, and return whether there were any."""
        container = job.get("container", {})
        group = container.get("logConfiguration", {}).get("options", {}).get("awslogs-group", LOG_GROUP)
        attempts = [attempt.get("container", {}).get("logStreamName") for attempt in job.get("attempts", [])]
        streams = dict.fromkeys(name for name in [*attempts, container.get("logStreamName")] if name)
        new = False
        for stream in streams:
            new |= self._read(group, stream)
        return new

    def _read(self, group: str, stream: str) -> bool:
        new = False
        while True:
            token = self._tokens.get(stream)
            given: dict[str, Any] = {"nextToken": token} if token else {}
            if self._start:
                given["startTime"] = self._start
            try:
                with aws.told(f"log {group} {stream}"):
                    answer = self._logs.get_log_events(
                        logGroupName=group, logStreamName=stream, startFromHead=True, **given
                    )
            except DeliveryError as error:
                cause = error.__cause__
                if isinstance(cause, ClientError) and aws.code_of(cause) == "ResourceNotFoundException":
                    # Nothing was written yet.
                    return new
                raise
            self.next_time = max([self.next_time, *(event.get("timestamp", 0) + 1 for event in answer["events"])])
            for line in (line for event in answer["events"] for line in _lines(event["message"])):
                new = True
                self.lines.append(line)
                self._console.say(f"  {line}")
            self._tokens[stream] = answer["nextForwardToken"]
            if answer["nextForwardToken"] == token or not answer["events"]:
                return new


def _lines(message: str) -> list[str]:
    """The lines to show of an event: of a JSON object, as jobs log for Datadog, its message."""
    try:
        text = json.loads(message)["message"] if message.startswith("{") else message
    except (ValueError, KeyError):
        text = message
    return str(text).splitlines()


def explain(job: Mapping[str, Any], exit_code: int | None) -> str:
    """Why a job or one of its attempts failed, in words, and what to do."""
    container = job.get("container", {})
    reason, status = str(container.get("reason", "")), str(job.get("statusReason", ""))
    attempts = len(job.get("attempts", []))
    if status.startswith("Host EC2"):
        times = f", the last of {attempts} times" if attempts > 1 else ""
        return f"its Spot instance was taken away{times}; submit it again: it resumes from its last checkpoint"
    if "CannotPullContainer" in reason:
        return (
            f"its image could not be pulled: {reason}; check that it is in the registry, and that the execution role "
            "of the job definition may read it"
        )
    if "OutOfMemory" in reason:
        return (
            "out of memory: the container was killed for using more than MEMORY of the job definition; raise it, or "
            "train with a smaller --batch-size"
        )
    if "duration exceeded timeout" in status:
        return f"it took longer than the job definition's timeout allows ({status})"
    if exit_code is not None and exit_code in EXPLAINED:
        return EXPLAINED[exit_code]
    if exit_code == KILLED:
        return f"the container was killed (exit code {KILLED}): {reason or status or 'Batch does not say why'}"
    ended = f"exit code {exit_code}" if exit_code is not None else "it was not started"
    return f"{ended}: {reason or status or 'its log says why'}"


def _check_age(job: Mapping[str, Any]) -> None:
    """Raise DeliveryError if a job that still runs or waits is older than its limits allow."""
    seconds, created = job.get("timeout", {}).get("attemptDurationSeconds"), job.get("createdAt")
    if not seconds or not created:
        return
    job_id, attempts = job["jobId"], job.get("retryStrategy", {}).get("attempts", 1)
    # What it waits for takes its time as well.
    hours = (1 + len(job.get("dependsOn", []))) * (attempts * seconds / 3600 + WAITING_HOURS)
    if time.time() - created / 1000 > hours * 3600:
        raise DeliveryError(
            f"job {job_id} is {job['status'].lower()} after {hours:g} hours, which is longer than {attempts} "
            f"attempts of training_hours of [delivery] and {WAITING_HOURS} hours of waiting for machines; end it: "
            f"{hint(f'stop-training {job_id}')}"
        )


def _attempt(job: Mapping[str, Any], number: int) -> str:
    """Why an attempt ended that another one follows."""
    ended = job["attempts"][number - 1]
    of = job.get("retryStrategy", {}).get("attempts")
    code = ended.get("container", {}).get("exitCode")
    why = explain(ended, code).partition("; submit it again")[0]
    return f"attempt {number}{f' of {of}' if of else ''} ended: {why}; it is started again, from its last checkpoint"
