"""The services that the images are tried with: what they receive, who can reach them, and that they go again."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from aws import Aws
from engine import Engine
from pytest_docker.plugin import Services

from containers.conftest import SERVICES
from containers.datadog import Datadog
from containers.waiting import wait_for

pytestmark = pytest.mark.docker


def test_aws_has_what_training_and_delivery_need(aws: Aws) -> None:
    assert aws.client("s3").list_buckets()["Buckets"] is not None
    assert aws.client("batch").describe_job_queues()["jobQueues"] is not None
    assert aws.client("logs").describe_log_groups()["logGroups"] is not None
    assert aws.client("ecr").describe_repositories()["repositories"] is not None
    assert aws.client("iam").list_roles()["Roles"] is not None


def test_the_agent_keeps_metrics_and_traces_that_containers_send_to_it(engine: Engine, datadog: Datadog) -> None:
    datadog.forget()
    program = (
        "import json, os, socket, urllib.request as u; agent = os.environ['DD_AGENT_HOST']; "
        "socket.socket(type=socket.SOCK_DGRAM).sendto('ml.größe:1|c\\nml.other:2|g'.encode(), (agent, 8125)); "
        "trace = [[dict(trace_id=1, span_id=2, name='predict', service='s', resource='r', start=0, duration=1)]]; "
        "u.urlopen(u.Request(f'http://{agent}:8126/v0.4/traces', json.dumps(trace).encode(), "
        "{'Content-Type': 'application/json'}, method='PUT'))"
    )
    engine.run("run", "--rm", *datadog.options, "--entrypoint=python3", engine.base_image, "-c", program)
    wait_for(lambda: datadog.packets() != [])
    assert datadog.packets() == ["ml.größe:1|c\nml.other:2|g"]
    assert [[span["name"] for span in trace] for trace in datadog.traces()] == [["predict"]]
    datadog.forget()
    assert not datadog.packets()
    assert not datadog.traces()


def test_nobody_else_can_reach_them(engine: Engine, docker_services: Services) -> None:
    # Whoever reaches Batch starts containers on this machine.
    label = f"label=com.docker.compose.project={engine.project}"
    containers = engine.output("ps", "--quiet", "--filter", label).split()
    ports = [
        json.loads(engine.output("inspect", "--format={{json .NetworkSettings.Ports}}", container))
        for container in containers
    ]
    bound = [binding for found in ports for bindings in found.values() for binding in bindings or []]
    assert {binding["HostIp"] for binding in bound} == {"127.0.0.1"}


def test_nothing_is_left_of_a_run_that_is_killed(engine: Engine, aws: Aws) -> None:
    """With all that a run makes: images, a container of one, a Compose project, whose image is built already."""
    program = f"""
import os, pathlib, subprocess, sys, time
import engine
os.environ["DOCKER_HOST"] = {engine.host!r}
with engine.open_engine({engine.base_image!r}) as found:
    image = found.build(pathlib.Path({str(SERVICES)!r}), "Dockerfile", "services")
    found.run("run", "--detach", image, "sleep", "600")
    compose = pathlib.Path(sys.executable).with_name("docker-compose")
    subprocess.run(
        [compose, "-f", {str(SERVICES / "compose.yaml")!r}, "-p", found.project, "up", "--detach"],
        env={{**found.environment, "SERVICES_IMAGE": image, "ENGINE_SOCKET": found.socket}},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True,
    )
    print(found.session, flush=True)
    time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout
        session = run.stdout.readline().strip()
        assert session
        # Two images, four containers and a network.
        assert things(engine).count(session) >= 6
        run.send_signal(signal.SIGKILL)
    wait_for(lambda: session not in things(engine), otherwise=lambda: things(engine))
    assert aws.answers


def things(engine: Engine) -> str:
    """Every container, image and network by name, as text."""
    return "\n".join(
        [
            engine.output("ps", "--all", "--format={{.Image}} {{.Names}}"),
            engine.output("images", "--format={{.Repository}}:{{.Tag}}"),
            engine.output("network", "ls", "--format={{.Name}}"),
        ]
    )
