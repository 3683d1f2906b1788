"""An AWS account of moto's, reached over HTTP as the real one is, and what a rendered repository puts into it."""

import json
import os
import string
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import yaml
from rendered import free_port

ACCOUNT = "123456789012"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "for-moto", "AWS_SECRET_ACCESS_KEY": "for-moto"}


@dataclass(frozen=True)
class Aws:
    """The account: `port` of this machine in a region."""

    port: int
    region: str

    def client(self, service: str) -> Any:
        """boto3's client of a service, such as `s3`."""
        return boto3.client(
            service,
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name=self.region,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )

    @property
    def answers(self) -> bool:
        """Whether it is there."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/moto-api/", timeout=5):
                return True
        except OSError:
            return False

    def deploy(self, repository: Path, **parameters: str) -> dict[str, Any]:
        """Deploy a rendered deploy/aws/stack.yaml, in the account's own network; the stack as CloudFormation has it."""
        template = yaml.safe_load((repository / "deploy" / "aws" / "stack.yaml").read_text(encoding="utf-8"))
        # Batch takes the role that is made for it in every account; moto wants to be told one that is there.
        template["Resources"]["ComputeEnvironment"]["Properties"]["ServiceRole"] = {"Fn::GetAtt": ["JobRole", "Arn"]}
        ec2 = self.client("ec2")
        given = {
            "VpcId": ec2.describe_vpcs()["Vpcs"][0]["VpcId"],
            "SubnetIds": ",".join(subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]),
            **parameters,
        }
        formation = self.client("cloudformation")
        name = formation.create_stack(
            StackName=repository.name,
            TemplateBody=json.dumps(template),
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
        )["StackId"]
        found: dict[str, Any] = formation.describe_stacks(StackName=name)["Stacks"][0]
        return found


def job_definition(repository: Path, image: str) -> dict[str, Any]:
    """The rendered job definition with its placeholders filled in, as Batch takes it."""
    text = (repository / "deploy" / "aws" / "job-definition.json").read_text(encoding="utf-8")
    filled: dict[str, Any] = json.loads(string.Template(text).substitute(IMAGE=image, ACCOUNT=ACCOUNT, PARTITION="aws"))
    return filled


@contextmanager
def account(region: str, log: Path) -> Iterator[Aws]:
    """A new account in a process of its own, at a random port of this machine, stopped at the end."""
    aws = Aws(free_port(), region)
    command = [sys.executable, "-c", "from moto.server import main; main()", "-p", str(aws.port)]
    with log.open("w", encoding="utf-8") as output:
        server = subprocess.Popen(command, env={**os.environ, **CREDENTIALS}, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 60
        while not aws.answers:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"moto did not start:\n{log.read_text(encoding='utf-8')}")
            time.sleep(0.2)
        yield aws
    finally:
        server.terminate()
        server.wait()
