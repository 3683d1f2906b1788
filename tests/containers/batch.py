"""Jobs of AWS Batch, through its API; moto runs them as containers of the engine that the tests use."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aws import CREDENTIALS, Aws, job_definition
from engine import Engine

# Jobs are on the network of the services, which go by their names in services/compose.yaml.
ENVIRONMENT = {
    "AWS_ENDPOINT_URL": "http://aws:5000",
    **CREDENTIALS,
    "DD_AGENT_HOST": "datadog",
    "DD_ENV": "test",
    "DD_VERSION": "v1",
    "LOG_FORMAT": "text",
}


@dataclass(frozen=True)
class Job:
    """A job that ended."""

    status: str
    exit_code: int
    log: str


class Batch:
    """The queue of the rendered stack, with the rendered job definition for the training image."""

    def __init__(self, aws: Aws, engine: Engine, repository: Path, image: str, queue: str) -> None:
        self.aws = aws
        self.engine = engine
        self.image = image
        self.queue = queue
        self.client = aws.client("batch")
        aws.deploy(repository)
        definition = job_definition(repository, image)
        # moto mounts directories that are named, but has no volumes of the engine's own making.
        properties = {**definition["containerProperties"], "volumes": [], "mountPoints": []}
        registered = self.client.register_job_definition(**{**definition, "containerProperties": properties})
        self.definition = registered["jobDefinitionArn"]

    def run(self, *command: str, meanwhile: Callable[[str], None] | None = None) -> Job:
        """Submit a job and wait for its end; `meanwhile` gets the id of its container when that is there."""
        environment = [{"name": name, "value": value} for name, value in ENVIRONMENT.items()]
        job = self.client.submit_job(
            jobName="training",
            jobQueue=self.queue,
            jobDefinition=self.definition,
            containerOverrides={"command": list(command), "environment": environment},
        )["jobId"]
        if meanwhile:
            meanwhile(self._container())
        deadline = time.monotonic() + 300
        while True:
            found = self.client.describe_jobs(jobs=[job])["jobs"][0]
            if found["status"] in {"SUCCEEDED", "FAILED"}:
                return Job(found["status"], self._exit_code(found), self._log(found))
            assert time.monotonic() < deadline, found
            time.sleep(0.5)

    def _exit_code(self, job: dict[str, Any]) -> int:
        # Of moto's answers only this one holds it.
        listed = self.client.list_jobs(jobQueue=self.queue, jobStatus=job["status"])["jobSummaryList"]
        return int(next(found["container"]["exitCode"] for found in listed if found["jobId"] == job["jobId"]))

    def _container(self) -> str:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = self.engine.containers(self.image)
            if found:
                return found[0]
            time.sleep(0.2)
        raise AssertionError("Batch started no container within 60 seconds")

    def _log(self, job: dict[str, Any]) -> str:
        logs = self.aws.client("logs")
        stream = {"logGroupName": "/aws/batch/job", "logStreamName": job["container"]["logStreamName"]}
        return "\n".join(event["message"] for event in logs.get_log_events(**stream, startFromHead=True)["events"])
