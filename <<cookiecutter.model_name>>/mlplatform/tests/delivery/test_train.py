"""`train` and `attach`: what is submitted to AWS Batch, and what the user sees of a job."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from mlplatform.contract.errors import ExitCode
from mlplatform.contract.parameters import parameters_type
from mlplatform.contract.result import JobResult, write_result
from mlplatform.delivery import aws
from mlplatform.delivery.images.build import training_recipe
from mlplatform.delivery.settings import DeliverySettings
from mlplatform.store import manifest
from mlplatform.store.storage import open_storage
from mlplatform.tests.conftest import Bucket
from mlplatform.tests.delivery.conftest import Delivery, Repository
from mlplatform.tests.registry import Registry

TRAINING = "team/under-test-training"


def settings() -> DeliverySettings:
    from mlplatform.config.settings import load

    return load(DeliverySettings)


class TestBeforeAnything:
    """What is missing, and what to type next."""

    def test_without_an_image_it_says_how_to_build_one(
        self, repository: Repository, account: Bucket, delivery: Delivery
    ) -> None:
        said = delivery("submit")
        assert said.code == 3
        assert f"no image of this code in {repository.registry.host}/{TRAINING} yet" in said.err
        assert "python -m mlplatform image training" in said.err

    def test_without_a_queue_it_says_how_to_make_one(
        self, registry: Registry, account: Bucket, delivery: Delivery
    ) -> None:
        registry.add_image(TRAINING, training_recipe(settings()).tag(), {})
        said = delivery("submit")
        assert said.code == 3
        assert "there is no job queue 'queue-bucket-" in said.err
        assert "deploy/aws/stack.yaml say how to make it" in said.err

    def test_a_store_that_no_job_reaches_is_refused(self, repository: Repository, delivery: Delivery) -> None:
        said = delivery("submit")
        assert said.code == 2
        assert "a job in AWS reaches no directory; must be s3://..." in said.err

    def test_a_job_that_there_is_not_is_said(self, account: Bucket, delivery: Delivery) -> None:
        said = delivery("attach", "no-such-job")
        assert said.code == 1
        assert "job no-such-job: not known in us-east-1" in said.err


def test_the_job_gets_the_image_by_digest_the_store_and_the_parameters(
    registry: Registry, account: Bucket, queue: str, delivery: Delivery
) -> None:
    digest = registry.add_image(TRAINING, training_recipe(settings()).tag(), {})
    said = delivery("submit", "--epochs", "3", "--learning-rate", "0.01", "--detach", "--json")
    assert said.code == 0, said.err
    batch: Any = boto3.client("batch", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    job = batch.describe_jobs(jobs=[json.loads(said.out)["job"]])["jobs"][0]
    given = job["container"]["environment"]
    variables = {each["name"]: each["value"] for each in given if each["name"] != "AWS_BATCH_JOB_ID"}
    assert variables == {"STORAGE_URL": account.url, "TRAINING_EPOCHS": "3", "TRAINING_LEARNING_RATE": "0.01"}
    definition = batch.describe_job_definitions(jobDefinitions=[job["jobDefinition"]])["jobDefinitions"][0]
    assert definition["containerProperties"]["image"] == f"{registry.host}/{TRAINING}@{digest}"
    role = "arn:aws:iam::123456789012:role/under-test-training-job"
    assert definition["containerProperties"]["jobRoleArn"] == role


def test_a_training_that_has_not_ended_is_followed_instead_of_a_second_one(
    registry: Registry, account: Bucket, queue: str, delivery: Delivery
) -> None:
    from moto.backends import get_backend

    registry.add_image(TRAINING, training_recipe(settings()).tag(), {})
    submitted = []
    for epochs in ("3", "3", "4"):
        said = delivery("submit", "--epochs", epochs, "--detach", "--json")
        submitted.append(json.loads(said.out)["job"])
        # The stand-in says at once that a job went well.
        job = get_backend("batch")["123456789012"]["us-east-1"].get_job_by_id(submitted[-1])
        assert job is not None
        job.status = "RUNNING"
    assert submitted[0] == submitted[1] != submitted[2]


def test_a_training_that_has_ended_is_submitted_again(
    registry: Registry, account: Bucket, queue: str, delivery: Delivery
) -> None:
    registry.add_image(TRAINING, training_recipe(settings()).tag(), {})
    submitted = [json.loads(delivery("submit", "--detach", "--json").out)["job"] for _ in range(2)]
    assert submitted[0] != submitted[1]


def test_a_dry_run_submits_nothing(registry: Registry, account: Bucket, queue: str, delivery: Delivery) -> None:
    registry.add_image(TRAINING, training_recipe(settings()).tag(), {})
    said = delivery("submit", "--dry-run")
    assert said.code == 0, said.err
    assert f"would register under-test-training and submit to {queue}" in said.out
    batch: Any = boto3.client("batch", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    assert batch.list_jobs(jobQueue=queue)["jobSummaryList"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--epochs", "0"), "training.epochs = '0' (argument): input should be greater than or equal to 1"),
        (("--epoch", "5"), "No such option '--epoch'"),
        (("--image", "registry/name:latest"), "must name its digest, registry/name@sha256:..."),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_submitted(
    account: Bucket, delivery: Delivery, arguments: Sequence[str], message: str
) -> None:
    said = delivery("submit", *arguments)
    assert said.code == 2
    assert message in said.err
    assert "Traceback" not in said.err


def test_help_lists_every_parameter_of_the_training(repository: Repository, delivery: Delivery) -> None:
    said = delivery("submit", "--help")
    assert said.code == 0
    for name in parameters_type().model_fields:
        assert f"--{name.replace('_', '-')} " in said.out


@dataclass
class Script:
    """Answers of Batch, one a look, the last for ever, and CloudWatch's lines by stream; what was asked of it.

    others: jobs by their ids that are not the one that is looked at.
    """

    looks: list[dict[str, Any]]
    others: dict[str, dict[str, Any]] = field(default_factory=dict)
    streams: dict[str, list[str]] = field(default_factory=dict)
    terminated: list[str] = field(default_factory=list)
    # From when on lines of the log were asked for, in ms; each is 1000 ms old.
    started: list[int] = field(default_factory=list)
    # Looks at the log in which CloudWatch does not have it yet.
    late: int = 0
    # When to press Ctrl-C: in this look.
    interrupted: int | None = None

    def describe_jobs(self, jobs: list[str]) -> dict[str, Any]:
        if self.interrupted is not None:
            self.interrupted -= 1
            if self.interrupted < 0:
                self.interrupted = None
                raise KeyboardInterrupt
        if jobs[0] in self.others:
            return {"jobs": [{"jobId": jobs[0], "jobQueue": "queue", **self.others[jobs[0]]}]}
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return {"jobs": [{"jobId": jobs[0], "jobQueue": "queue", **look}]}

    def list_jobs(self, arrayJobId: str = "", jobStatus: str = "", **_: Any) -> dict[str, Any]:  # noqa: N803
        """The jobs of an array, if that is asked for."""
        children = [
            (name, job) for name, job in self.others.items() if arrayJobId and name.startswith(f"{arrayJobId}:")
        ]
        return {"jobSummaryList": [{"jobId": name} for name, job in children if job["status"] == jobStatus]}

    def terminate_job(self, jobId: str, reason: str) -> None:  # noqa: N803
        self.terminated.append(jobId)

    def get_log_events(
        self,
        logStreamName: str,  # noqa: N803
        nextToken: str = "0",  # noqa: N803
        startTime: int = 0,  # noqa: N803
        **_: Any,
    ) -> dict[str, Any]:
        self.started.append(startTime)
        if logStreamName not in self.streams:
            raise ClientError({"Error": {"Code": "ResourceNotFoundException"}}, "GetLogEvents")
        self.late -= 1
        lines = self.streams[logStreamName][int(nextToken) :] if self.late < 0 else []
        shown = [{"message": line, "timestamp": 1000} for line in lines if startTime <= 1000]
        return {"events": shown, "nextForwardToken": str(int(nextToken) + len(lines))}


def failed(exit_code: int | None = None, reason: str = "", status: str = "Essential container in task exited") -> Any:
    container = {"logStreamName": "one", **({"exitCode": exit_code} if exit_code is not None else {})}
    return {"status": "FAILED", "statusReason": status, "container": {**container, **({"reason": reason})}}


def wrote(account: Bucket, result: JobResult, job: str = "job-1") -> None:
    """What the job left in the store."""
    write_result(open_storage(account.url), job, result)


@pytest.fixture
def scripted(account: Bucket, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Batch and CloudWatch say what the test writes: moto starts no second attempt and shows a log only at its end."""
    script = Script([])
    monkeypatch.setattr(aws, "client", lambda service, region: script)
    return script


def test_a_job_that_ends_well_says_version_metrics_and_report(
    account: Bucket, scripted: Script, delivery: Delivery, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "report.html").write_text("<p>learned</p>")
    (source / "metrics.json").write_text("{}")
    properties = {"metrics": {"accuracy": 0.98765}, "dataset": "d1", "report": "report.html"}
    published = manifest.publish(
        open_storage(account.url), "models/c0ffee012345", source, "model", "c0ffee012345", properties
    )
    place = f"{account.url}/models/c0ffee012345/{published.content}/report.html"
    scripted.looks = [{"status": "RUNNABLE"}, {"status": "RUNNING", "container": {"logStreamName": "one"}}]
    scripted.looks += [{"status": "SUCCEEDED", "container": {"logStreamName": "one", "exitCode": 0}}]
    scripted.streams["one"] = ["any line"]
    report = place.removeprefix(f"{account.url}/")
    wrote(account, JobResult(ExitCode.DONE, model="c0ffee012345", report=report))
    said = delivery("attach", "job-1", "--report", str(tmp_path / "reports"))
    assert said.code == 0, said.err
    assert said.out.startswith("model version c0ffee012345\n  accuracy    0.9877\n  dataset     d1\n")
    assert f"report      {place}" in said.out
    assert "next: python -m mlplatform gate c0ffee012345" in said.out
    assert (tmp_path / "reports" / "report.html").read_text() == "<p>learned</p>"
    assert [line for line in said.err.splitlines() if "job: r" in line] == [
        "job: runnable",
        "job: running",
        f"job: report and metrics are in {tmp_path / 'reports'}",
    ]


def test_a_second_attempt_is_said_and_its_log_follows_the_first(
    account: Bucket, scripted: Script, delivery: Delivery
) -> None:
    spot = {"statusReason": "Host EC2 (instance i-012) terminated.", "container": {"logStreamName": "one"}}
    retry = {"retryStrategy": {"attempts": 5}}
    scripted.looks = [
        {"status": "RUNNING", "container": {"logStreamName": "one"}},
        {"status": "RUNNABLE", "attempts": [spot], "container": {"logStreamName": "one"}, **retry},
        {"status": "RUNNING", "attempts": [spot], "container": {"logStreamName": "two"}, **retry},
        {**failed(4), "attempts": [spot, {"container": {"logStreamName": "two", "exitCode": 4}}], **retry},
    ]
    scripted.looks[-1]["container"]["logStreamName"] = "two"
    scripted.streams = {"one": ["epoch 1", "epoch 2"], "two": ["going on from epoch 2"]}
    wrote(account, CLOSED)
    said = delivery("attach", "job-1")
    lines = said.err.splitlines()
    told = "attempt 1 of 5 ended: its Spot instance was taken away; it is started again, from its last checkpoint"
    assert lines.index("  epoch 2") < lines.index(f"job: {told}") < lines.index("  going on from epoch 2")
    assert lines.count("  epoch 1") == 1


@pytest.mark.parametrize(
    ("job", "code", "message"),
    [
        (failed(status="Host EC2 (instance i-012) terminated."), 1, "its Spot instance was taken away"),
        (
            failed(reason="CannotPullContainerError: manifest unknown"),
            1,
            "its image could not be pulled: CannotPullContainerError: manifest unknown; check that it is in the",
        ),
        (failed(137, "OutOfMemoryError: Container killed due to memory usage"), 1, "out of memory: the container was"),
        (failed(137, status="Job attempt duration exceeded timeout"), 1, "longer than the job definition's timeout"),
        (failed(137), 1, "the container was killed (exit code 137)"),
        (failed(2), 2, "a parameter or setting is wrong"),
        (failed(3), 1, "the data is not what model/dataset.py says"),
        (failed(75), 1, "submit it again: it resumes from its last checkpoint"),
        (failed(1), 1, "exit code 1: Essential container in task exited"),
        (failed(status="Terminated by an operator"), 1, "it was not started: Terminated by an operator"),
    ],
)
def test_a_job_that_failed_says_why_and_the_end_of_its_log(
    scripted: Script, delivery: Delivery, job: dict[str, Any], code: int, message: str
) -> None:
    scripted.looks, scripted.streams = [job], {"one": [f"line {n}" for n in range(30)]}
    said = delivery("attach", "job-1")
    assert said.code == code
    end = said.err[said.err.index("attach: job job-1 failed: ") :]
    assert message in end
    assert end.splitlines()[1] == "the end of its log:"
    assert end.splitlines()[2:] == [f"  line {n}" for n in range(10, 30)]


REASON = "accuracy 0.5000 on the test split is below minimum 0.9 of [gate.accuracy]"
CLOSED = JobResult(
    ExitCode.GATE_CLOSED, f"{REASON}; nothing is published", report="runs/1/report.html", reasons=(REASON,)
)


def test_a_closed_gate_has_a_code_of_its_own_and_the_pipelines_reason(
    account: Bucket, scripted: Script, delivery: Delivery
) -> None:
    scripted.looks = [failed(4)]
    wrote(account, CLOSED)
    said = delivery("attach", "job-1")
    assert said.code == 4
    reason = f"the gate is closed: {REASON}; nothing is published"
    assert f"attach: {reason}\nreport: {account.url}/runs/1/report.html" in said.err


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (1, "failed: the store is full\n"),
        (2, "failed: a parameter or setting is wrong: the store is full\n"),
        (3, "failed: the data is not what model/dataset.py says: the store is full\n"),
    ],
)
def test_what_a_failed_job_wrote_is_the_reason(
    account: Bucket, scripted: Script, delivery: Delivery, code: int, message: str
) -> None:
    scripted.looks = [failed(code)]
    wrote(account, JobResult(ExitCode(code), "the store is full"))
    assert f"attach: job job-1 {message}" in delivery("attach", "job-1").err


def test_a_job_that_was_killed_is_not_explained_by_what_an_attempt_before_it_wrote(
    account: Bucket, scripted: Script, delivery: Delivery
) -> None:
    scripted.looks = [failed(137, "OutOfMemoryError: Container killed due to memory usage")]
    wrote(account, CLOSED)
    said = delivery("attach", "job-1")
    assert said.code == 1
    assert "attach: job job-1 failed: out of memory" in said.err


def test_the_last_lines_of_a_job_that_ended_come_after_its_end(scripted: Script, delivery: Delivery) -> None:
    # Not in the look that finds that it ended, and not in the one after.
    scripted.late, scripted.looks = 2, [failed(1)]
    scripted.streams["one"] = ["the last line"]
    assert delivery("attach", "job-1").err.endswith("the end of its log:\n  the last line\n")


def test_a_job_that_ended_well_without_a_result_says_what_is_missing(
    account: Bucket, scripted: Script, delivery: Delivery
) -> None:
    scripted.looks = [{"status": "SUCCEEDED", "container": {"logStreamName": "one", "exitCode": 0}}]
    scripted.streams["one"] = ["epoch 1"]
    said = delivery("attach", "job-1")
    assert said.code == 1
    place = f"{account.url}/jobs/job-1/result.json"
    assert f"attach: job job-1 ended well, and its result, {place}, is not there" in said.err
    assert "The published models: python -m mlplatform models" in said.err


def test_a_result_that_is_none_is_said(account: Bucket, scripted: Script, delivery: Delivery) -> None:
    scripted.looks = [{"status": "SUCCEEDED", "container": {"logStreamName": "one", "exitCode": 0}}]
    open_storage(account.url).write("jobs/job-1/result.json", b'{"format": 2}')
    said = delivery("attach", "job-1")
    assert said.code == 1
    assert "jobs/job-1/result.json: not the result of a job (ValueError: format 2, this code reads 1)" in said.err


def test_a_result_that_cannot_be_read_does_not_hide_why_the_job_failed(
    account: Bucket, scripted: Script, delivery: Delivery
) -> None:
    scripted.looks = [failed(137, "OutOfMemoryError: Container killed due to memory usage")]
    open_storage(account.url).write("jobs/job-1/result.json", b"{")
    said = delivery("attach", "job-1").err
    assert "job: " in said and "jobs/job-1/result.json: not the result of a job" in said
    assert "attach: job job-1 failed: out of memory" in said


def test_a_log_in_json_is_shown_as_text(scripted: Script, delivery: Delivery) -> None:
    scripted.looks = [failed(1)]
    message = "training: the store is full\n  try again later"
    scripted.streams["one"] = [json.dumps({"status": "error", "message": message}), "{not json", '{"no": "message"}']
    shown = delivery("attach", "job-1").err
    assert "  training: the store is full\n    try again later\n" in shown
    assert '  {"no": "message"}\n' in shown


def test_ctrl_c_without_a_terminal_leaves_the_job_running(scripted: Script, delivery: Delivery) -> None:
    scripted.looks, scripted.interrupted = [{"status": "RUNNING"}], 1
    said = delivery("attach", "job-1")
    assert said.code == 130
    assert "job job-1 keeps running; follow it: python -m mlplatform attach job-1" in said.err
    assert scripted.terminated == []


@pytest.mark.parametrize(("answer", "terminated"), [("leave", []), ("terminate", ["job-1"])])
def test_ctrl_c_at_a_terminal_asks(
    scripted: Script, delivery: Delivery, monkeypatch: pytest.MonkeyPatch, answer: str, terminated: list[str]
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.prompt", lambda *_, **__: answer)
    scripted.looks, scripted.interrupted = [{"status": "RUNNING"}], 1
    assert delivery("attach", "job-1").code == 130
    assert scripted.terminated == terminated


def test_what_aws_refuses_is_said_without_a_traceback(
    account: Bucket, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    said = delivery("attach", "job-1")
    assert said.code == 1
    assert "job job-1: no AWS credentials; set AWS_PROFILE, or log in" in said.err


def test_a_job_that_has_not_ended_is_followed_in_slices(account: Bucket, scripted: Script, delivery: Delivery) -> None:
    scripted.looks, scripted.streams = [{"status": "RUNNING", "container": {"logStreamName": "one"}}], {"one": ["a"]}
    said = delivery("attach", "job-1", "--minutes", "0", "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out) == {"job": "job-1", "ended": False, "status": "RUNNING", "log_from": 1001}
    assert "  a" in said.err.splitlines()
    # The next slice, with nothing new: what was shown before is not shown again.
    assert (
        json.loads(delivery("attach", "job-1", "--minutes", "0", "--log-from", "1001", "--json").out)["log_from"]
        == 1001
    )
    assert {0, 1001} == set(scripted.started)


def test_a_job_gets_the_time_that_the_settings_give_an_attempt(
    registry: Registry, account: Bucket, queue: str, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELIVERY_TRAINING_HOURS", "2")
    registry.add_image(TRAINING, training_recipe(settings()).tag(), {})
    said = delivery("submit", "--detach", "--json")
    batch: Any = boto3.client("batch", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    job = batch.describe_jobs(jobs=[json.loads(said.out)["job"]])["jobs"][0]
    assert job["timeout"] == {"attemptDurationSeconds": 7200}


def test_a_job_that_is_older_than_all_its_attempts_may_become_is_given_up(
    account: Bucket, scripted: Script, delivery: Delivery
) -> None:
    limits = {"timeout": {"attemptDurationSeconds": 3600}, "retryStrategy": {"attempts": 2}}
    day_and_three_hours = (time.time() - 27 * 3600) * 1000
    scripted.looks = [{"status": "RUNNABLE", "createdAt": day_and_three_hours, **limits}]
    said = delivery("attach", "job-1")
    assert said.code == 1
    assert "job job-1 is runnable after 26 hours" in said.err
    assert "end it: python -m mlplatform stop-training job-1" in said.err


def test_a_training_is_stopped(account: Bucket, scripted: Script, delivery: Delivery) -> None:
    scripted.looks = [{"status": "RUNNING", "jobName": "under-test"}]
    assert delivery("stop-training", "job-1", "--dry-run").out == "job job-1 would be terminated\n"
    assert scripted.terminated == []
    assert delivery("stop-training", "job-1").out == "job job-1 is being terminated\n"
    assert scripted.terminated == ["job-1"]


def test_a_training_that_has_ended_or_is_of_another_service_is_not_stopped(
    account: Bucket, scripted: Script, delivery: Delivery
) -> None:
    scripted.looks = [{"status": "SUCCEEDED", "jobName": "under-test"}]
    assert delivery("stop-training", "job-1").out == "job job-1 has ended already\n"
    scripted.looks = [{"status": "RUNNING", "jobName": "other"}]
    said = delivery("stop-training", "job-1")
    assert said.code == 3
    assert "job job-1 is of other, not of under-test" in said.err
    assert scripted.terminated == []


class TestOnSeveralMachines:
    """`submit --machines`: an array job checks the source, and the training waits for it."""

    SOURCE = ("--source", "s3://bucket/records")

    def test_an_array_job_with_what_the_training_gets_goes_before_it(
        self, registry: Registry, account: Bucket, queue: str, delivery: Delivery
    ) -> None:
        registry.add_image(TRAINING, training_recipe(settings()).tag(), {})
        said = delivery("submit", "--machines", "3", *self.SOURCE, "--detach", "--json")
        assert said.code == 0, said.err
        batch: Any = boto3.client("batch", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
        job = batch.describe_jobs(jobs=[json.loads(said.out)["job"]])["jobs"][0]
        (before,) = job["dependsOn"]
        check = batch.describe_jobs(jobs=[before["jobId"]])["jobs"][0]
        assert check["arrayProperties"]["size"] == 3
        assert check["jobDefinition"] == job["jobDefinition"]
        given = {each["name"]: each["value"] for each in check["container"]["environment"]}
        assert given["TRAINING_SOURCE"] == "s3://bucket/records"
        assert given["STORAGE_URL"] == account.url
        assert f"job: {before['jobId']} checks the source on 3 machines" in said.err

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [((), "source = ''"), ((*SOURCE, "--dataset", "0123456789ab"), "dataset = '0123456789ab'")],
    )
    def test_where_there_is_nothing_to_be_checked_it_is_refused(
        self, account: Bucket, delivery: Delivery, arguments: Sequence[str], said: str
    ) -> None:
        refused = delivery("submit", "--machines", "3", *arguments)
        assert refused.code == 2
        assert f"--machines 3: {said}, so there are no files to be checked; give --source s3://" in refused.err

    def test_a_training_that_waits_says_how_many_machines_are_done(
        self, account: Bucket, scripted: Script, delivery: Delivery
    ) -> None:
        before = {"dependsOn": [{"jobId": "check"}]}
        scripted.others["check"] = {
            "status": "PENDING",
            "arrayProperties": {"size": 3, "statusSummary": {"SUCCEEDED": 2}},
        }
        scripted.looks = [{"status": "PENDING", **before}, {**failed(4), **before, "attempts": [{}]}]
        wrote(account, CLOSED)
        said = delivery("attach", "job-1").err
        assert "job: pending, 2 of 3 machines have checked their files\n" in said

    def test_a_machine_that_failed_is_the_reason_and_its_log_is_shown(
        self, account: Bucket, scripted: Script, delivery: Delivery
    ) -> None:
        scripted.looks = [
            {"status": "FAILED", "statusReason": "Dependent Job failed", "dependsOn": [{"jobId": "check"}]}
        ]
        scripted.others = {"check": {"status": "FAILED"}, "check:0": {"status": "SUCCEEDED"}, "check:1": failed(1)}
        scripted.streams["one"] = ["the end"]
        wrote(account, JobResult(ExitCode.FAILED, "the store is full"), "check:1")
        said = delivery("attach", "job-1")
        assert said.code == 1
        assert "attach: job check:1 failed: the store is full\nthe end of its log:\n  the end\n" in said.err

    def test_stopping_the_training_stops_what_it_waits_for(
        self, account: Bucket, scripted: Script, delivery: Delivery
    ) -> None:
        scripted.looks = [{"status": "PENDING", "jobName": "under-test", "dependsOn": [{"jobId": "check"}]}]
        scripted.others["check"] = {"status": "PENDING"}
        assert delivery("stop-training", "job-1").code == 0
        assert scripted.terminated == ["job-1", "check"]
