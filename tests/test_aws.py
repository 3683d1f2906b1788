"""What the template brings for AWS: a job definition that Batch takes, and a stack that CloudFormation deploys."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
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
    assert "JenkinsRole" not in roles
    assert [role["RoleName"] for role in aws.client("iam").list_roles()["Roles"] if "jenkins" in role["RoleName"]] == []
    queues = aws.client("batch").describe_job_queues()["jobQueues"]
    assert [queue["jobQueueName"] for queue in queues] == ["leaf-queue"]
    groups = aws.client("logs").describe_log_groups()["logGroups"]
    assert properties["logConfiguration"]["options"]["awslogs-group"] in {group["logGroupName"] for group in groups}
    repositories = aws.client("ecr").describe_repositories()["repositories"]
    assert {found["repositoryName"] for found in repositories} == {
        "team/images/leaf-reader-events",
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
    assert len(aws.client("ecr").describe_repositories()["repositories"]) == 6


def document(found: Any) -> dict[str, Any]:
    """A policy; moto returns some of them as text, in Python's own form, which is YAML as well."""
    policy: dict[str, Any] = yaml.safe_load(found) if isinstance(found, str) else found
    return policy


@pytest.fixture(scope="module")
def role(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What IAM has of the role, and its `policies`."""
    job = {
        "JenkinsIssuer": "jenkins.example.com/oidc",
        "JenkinsJob": "https://jenkins.example.com/job/leaf-reader/",
    }
    with account(REGION, tmp_path_factory.mktemp("aws") / "moto.log") as aws:
        aws.deploy(render(ANSWERS), **job)
        iam = aws.client("iam")
        found: dict[str, Any] = iam.get_role(RoleName="leaf-reader-jenkins")["Role"]
        names = iam.list_role_policies(RoleName="leaf-reader-jenkins")["PolicyNames"]
        kept = [iam.get_role_policy(RoleName="leaf-reader-jenkins", PolicyName=name) for name in names]
        yield {**found, "policies": [document(policy["PolicyDocument"]) for policy in kept]}


class TestJenkins:
    """The role of the Jenkins job, which there is with these parameters."""

    def test_trusts_tokens_of_this_job_and_of_no_other(self, role: dict[str, Any]) -> None:
        (statement,) = document(role["AssumeRolePolicyDocument"])["Statement"]
        assert statement == {
            "Effect": "Allow",
            "Principal": {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/jenkins.example.com/oidc"},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {
                "StringEquals": {
                    "jenkins.example.com/oidc:aud": "sts.amazonaws.com",
                    "jenkins.example.com/oidc:sub": "https://jenkins.example.com/job/leaf-reader/",
                }
            },
        }

    def test_may_do_what_delivery_does_with_this_models_things_and_nothing_else(self, role: dict[str, Any]) -> None:
        allowed: dict[str, set[str]] = {}
        for policy in role["policies"]:
            for each in policy["Statement"]:
                assert each["Effect"] == "Allow"
                actions, resources = (
                    [found] if isinstance(found, str) else found for found in (each["Action"], each["Resource"])
                )
                for action in actions:
                    allowed.setdefault(action, set()).update(resources)
        batch, bucket = f"arn:aws:batch:{REGION}:{ACCOUNT}", "arn:aws:s3:::leaf-bucket"
        definitions = {f"{batch}:job-definition/leaf-reader-training{end}" for end in ("", ":*")}
        images = {
            f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/team/images/leaf-reader-{kind}"
            for kind in ("training", "serving", "events")
        }
        roles = {f"arn:aws:iam::{ACCOUNT}:role/leaf-reader-training-{kind}" for kind in ("job", "execution")}
        log = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/batch/leaf-reader-training"
        (allowed_log,) = allowed.pop("logs:GetLogEvents")
        assert allowed_log.removesuffix(":*") == log
        assert allowed == {
            "s3:ListBucket": {bucket},
            **{key: {f"{bucket}/leaf-reader/*"} for key in ("s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload")},
            "s3:DeleteObject": {f"{bucket}/leaf-reader/releases/under-way/*"},
            "ecr:GetAuthorizationToken": {"*"},
            **dict.fromkeys(
                (
                    "ecr:BatchCheckLayerAvailability",
                    "ecr:BatchGetImage",
                    "ecr:CompleteLayerUpload",
                    "ecr:GetDownloadUrlForLayer",
                    "ecr:InitiateLayerUpload",
                    "ecr:PutImage",
                    "ecr:UploadLayerPart",
                ),
                images,
            ),
            **{key: {"*"} for key in ("batch:DescribeJobQueues", "batch:DescribeJobs", "batch:ListJobs")},
            **dict.fromkeys(("batch:RegisterJobDefinition", "batch:TagResource"), definitions),
            "batch:SubmitJob": {*definitions, f"{batch}:job-queue/leaf-queue"},
            "batch:TerminateJob": {f"{batch}:job/*"},
            "iam:PassRole": roles,
        }


def test_a_job_reads_source_buckets_that_are_named_and_without_any_only_the_models_own_part(
    aws: Aws, render: Render
) -> None:
    iam = aws.client("iam")
    named = aws.deploy(render(ANSWERS), SourceBuckets="arn:aws:s3:::leaves,arn:aws:s3:::roots")
    assert named["StackStatus"] == "CREATE_COMPLETE"
    kept = iam.get_role_policy(RoleName="leaf-reader-training-job", PolicyName="sources")
    allowed = {found["Action"]: found["Resource"] for found in document(kept["PolicyDocument"])["Statement"]}
    assert allowed == {
        "s3:ListBucket": ["arn:aws:s3:::leaves", "arn:aws:s3:::roots"],
        "s3:GetObject": ["arn:aws:s3:::leaves/*", "arn:aws:s3:::roots/*"],
    }
    aws.deploy(render({**ANSWERS, "model_name": "root-reader"}), Shared="existing")
    assert iam.list_role_policies(RoleName="root-reader-training-job")["PolicyNames"] == ["store"]


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
