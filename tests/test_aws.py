"""What the template brings for AWS: a job definition that Batch takes, and a stack that CloudFormation deploys."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from aws import ACCOUNT, Aws, account, job_definition
from conftest import Render

pytestmark = pytest.mark.render

REGION = "eu-west-1"
ANSWERS = {
    "model_name": "leaf-reader",
    "aws_region": REGION,
    "artifact_bucket": "leaf-bucket",
    "batch_job_queue": "leaf-queue",
    "container_registry": "registry.example.com:5000/team/images",
}
DEVICES = ("gpu", "cpu")


@pytest.fixture
def aws(tmp_path: Path) -> Iterator[Aws]:
    with account(REGION, tmp_path / "moto.log") as found:
        yield found


def test_the_stack_can_be_deployed_and_holds_what_the_job_needs(aws: Aws, render: Render) -> None:
    repository = render(ANSWERS)
    stack = aws.deploy(repository)
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    roles = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    properties = job_definition(repository, "image")["containerProperties"]
    assert roles["JobRole"] == properties["jobRoleArn"]
    assert roles["ExecutionRole"] == properties["executionRoleArn"]
    queues = aws.client("batch").describe_job_queues()["jobQueues"]
    assert [queue["jobQueueName"] for queue in queues] == ["leaf-queue"]
    groups = aws.client("logs").describe_log_groups()["logGroups"]
    assert properties["logConfiguration"]["options"]["awslogs-group"] in {group["logGroupName"] for group in groups}
    repositories = aws.client("ecr").describe_repositories()["repositories"]
    assert {found["repositoryName"] for found in repositories} == {
        "team/images/leaf-reader-serving",
        "team/images/leaf-reader-training",
    }
    rules = aws.client("s3").get_bucket_encryption(Bucket="leaf-bucket")["ServerSideEncryptionConfiguration"]["Rules"]
    assert rules[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"


def test_a_second_models_stack_uses_the_bucket_and_the_queue_that_are_there(aws: Aws, render: Render) -> None:
    aws.deploy(render(ANSWERS))
    second = render({**ANSWERS, "model_name": "root-reader"})
    assert aws.deploy(second, Shared="existing")["StackStatus"] == "CREATE_COMPLETE"
    assert len(aws.client("batch").describe_job_queues()["jobQueues"]) == 1
    assert len(aws.client("ecr").describe_repositories()["repositories"]) == 4


@pytest.mark.parametrize("device", DEVICES)
def test_batch_takes_the_job_definition(device: str, aws: Aws, render: Render) -> None:
    batch = aws.client("batch")
    wanted = job_definition(render({**ANSWERS, "training_device": device}), "registry.example.com/leaf@sha256:0")
    registered = batch.register_job_definition(**wanted)["jobDefinitionArn"]
    found = batch.describe_job_definitions(jobDefinitions=[registered])["jobDefinitions"][0]
    properties = found["containerProperties"]
    assert properties["image"] == "registry.example.com/leaf@sha256:0"
    assert properties["jobRoleArn"] == f"arn:aws:iam::{ACCOUNT}:role/leaf-reader-training-job"
    assert properties["user"] == "10001:10001"
    assert properties["readonlyRootFilesystem"]
    needs = {need["type"]: need["value"] for need in properties["resourceRequirements"]}
    assert needs.get("GPU") == ("1" if device == "gpu" else None)
    assert {"name": "STORAGE_URL", "value": "s3://leaf-bucket/leaf-reader"} in properties["environment"]


def test_only_what_may_go_better_the_next_time_is_tried_again(render: Render) -> None:
    rules = job_definition(render(ANSWERS), "image")["retryStrategy"]["evaluateOnExit"]
    assert {"onExitCode": "75", "action": "RETRY"} in rules
    assert {"onStatusReason": "Host EC2*", "action": "RETRY"} in rules
    # Where no rule matches Batch tries again, so that a job with a wrong parameter would run five times.
    assert rules[-1] == {"onReason": "*", "action": "EXIT"}
