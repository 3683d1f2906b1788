"""Whole releases against stand-ins on this machine: `nox -s release`, or `nox -s release -- --releases 2 --epochs 3`.

An image registry and an AWS account (moto) of their own, jobs and server in real containers of the Docker Engine that
answers here, and delivery's own commands, as Jenkins gives them: training image, job in AWS Batch, gate, serving image,
manifests, which are checked against the schemas of Kubernetes; `nox -s cluster` tries them in a cluster. The server is
then started with the rights that Kubernetes gives it, and asked as after a deployment. Each further release changes one
parameter, the seed, and is compared with the one before. At the end stands how many seconds each step took.
"""

import argparse
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import kubernetes_validate
import yaml

from mlplatform.config.settings import ServiceSettings, load
from mlplatform.delivery import programs
from mlplatform.delivery.releases import smoke
from mlplatform.store import manifest, releases
from mlplatform.store.manifest import Manifest
from mlplatform.store.models import columns
from mlplatform.store.storage import open_storage
from mlplatform.tests.deploy.manifests import VERSIONS, check_schema
from mlplatform.tests.registry import Registry

REGION = "us-east-1"
BUCKET = "release-play"
QUEUE = "release-play"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "for-moto", "AWS_SECRET_ACCESS_KEY": "for-moto"}
# As the restricted profile of Kubernetes would start it.
LOCKED_UP = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")
START_SECONDS = 120
# Where the engine runs on this machine, jobs share its network and so its loopback interface. Docker Desktop's engine
# lies in a virtual machine, out of which this name leads to the loopback interface of the machine around it.
LOCAL_ENGINE = sys.platform == "linux"
JOBS_REACH = "127.0.0.1" if LOCAL_ENGINE else "host.docker.internal"


class Play:
    """The steps of one release, each timed. environment: of every command."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = {**os.environ, **environment}
        self.seconds: dict[str, float] = {}

    def step(self, name: str, *arguments: str) -> str:
        """Run a command of delivery and return its result. SystemExit with its exit code if it fails."""
        print(f"\n$ python -m mlplatform {' '.join(arguments)}", flush=True)
        with self.timed(name):
            done = subprocess.run(
                [sys.executable, "-m", "mlplatform", *arguments],
                env=self.environment,
                stdout=subprocess.PIPE,
                text=True,
            )
        print(done.stdout if len(done.stdout) < 2000 else f"{done.stdout[:2000]}...", flush=True)
        if done.returncode:
            raise SystemExit(done.returncode)
        return done.stdout.strip()

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Take the time of a step."""
        started = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - started


def table(plays: Sequence[Play]) -> str:
    """Seconds per step and in all, a column for each release."""
    rows = [("step", *(f"release {number}" for number, _ in enumerate(plays, 1)))]
    rows += [(name, *(f"{play.seconds[name]:.1f}" for play in plays)) for name in plays[0].seconds]
    return columns([*rows, ("in all", *(f"{sum(play.seconds.values()):.1f}" for play in plays))])


def main(arguments: Sequence[str]) -> None:
    """Play releases with parameters of the training, such as `--epochs 3`."""
    parser = argparse.ArgumentParser(prog="nox -s release --", description=__doc__, allow_abbrev=False)
    parser.add_argument("--releases", type=int, default=1, help="how many, one after another")
    parser.add_argument("--seconds", type=Path, help="also write the seconds of each step into a file of JSON")
    options, parameters = parser.parse_known_args(arguments)
    programs.output("docker", "version")
    with Registry().running() as registry, tempfile.TemporaryDirectory() as work, _account(Path(work)) as port:
        environment = _environment(registry, Path(work), port)
        os.environ.update(environment)
        plays = [Play(environment) for _ in range(options.releases)]
        try:
            for number, play in enumerate(plays, 1):
                _release(play, ("--seed", str(number), *parameters))
        finally:
            _forget(registry.host)
    print(f"\n{table(plays)}")
    if options.seconds:
        options.seconds.write_text(json.dumps([play.seconds for play in plays], indent=1), encoding="utf-8")


def _environment(registry: Registry, work: Path, port: int) -> dict[str, str]:
    return {
        **CREDENTIALS,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "DELIVERY_AWS_REGION": REGION,
        "DELIVERY_BATCH_JOB_QUEUE": QUEUE,
        "DELIVERY_CONTAINER_REGISTRY": f"{registry.host}/play",
        "DELIVERY_JOB_DEFINITION": str(_job_definition(work, port)),
        "DELIVERY_POLL_SECONDS": "0.5",
        "DELIVERY_STORAGE_URL": f"s3://{BUCKET}/play",
        "DELIVERY_TRAINING_DEVICE": "cpu",
    }


def _release(play: Play, parameters: Sequence[str]) -> None:
    play.step("training image", "image", "training")
    model = json.loads(play.step("train", "submit", "--json", *parameters))["model"]
    play.step("gate", "gate", model)
    image = play.step("serving image", "bundle", model)
    rendered = play.step("manifests", "deploy", "--environment", "production", "--image", image, "--dry-run")
    with play.timed("check manifests"):
        print(_checked(rendered))
    store = open_storage(f"s3://{BUCKET}/play")
    with play.timed("start and ask"):
        print(f"$ docker run {image}\n{_serve(image, manifest.read(store, f'models/{model}'))}")
    # As a deployment to production says: the next model is compared with it.
    releases.set_production(store, model)


def _checked(rendered: str) -> str:
    """What the schemas of Kubernetes say of manifests. SystemExit with the field if one does not know it."""
    found = list(yaml.safe_load_all(rendered))
    for each, version in itertools.product(found, VERSIONS):
        try:
            check_schema(each, version)
        except kubernetes_validate.ValidationError as error:
            raise SystemExit(f"{each['kind']}: Kubernetes {version} does not take it: {error}") from None
    return f"{len(found)} objects are valid in Kubernetes {', '.join(VERSIONS)}"


def _forget(registry: str) -> None:
    """Remove the images of a registry that is gone from the engine; their layers stay in its build cache.

    By tag: an image of the same content may have a tag of another registry, and by id it would lose that, too.
    """
    tags = programs.output(
        *("docker", "images", "--filter", f"reference={registry}/*/*", "--format={{.Repository}}:{{.Tag}}")
    )
    if tags.strip():
        programs.output("docker", "rmi", "--force", *tags.split())


def _serve(image: str, model: Manifest) -> str:
    """Start the server, ask it what a deployment asks, and remove it; what it answered."""
    container = programs.output("docker", "run", "--detach", *LOCKED_UP, "--publish=127.0.0.1::8080", image).strip()
    try:
        port = programs.output("docker", "port", container, "8080").split()[0].rpartition(":")[2]
        return smoke.check(f"http://127.0.0.1:{port}", load(ServiceSettings).name, model.id, model)
    except smoke.SmokeError as error:
        log = programs.output("docker", "logs", container)
        raise SystemExit(f"{error}\n{log}") from None
    finally:
        programs.output("docker", "rm", "--force", "--volumes", container)


def _job_definition(work: Path, port: int) -> Path:
    """The repository's own, but for what moto does not have, and with the way to moto for the job."""
    definition: dict[str, Any] = json.loads(Path("deploy/aws/job-definition.json").read_text(encoding="utf-8"))
    properties = definition["containerProperties"]
    # moto mounts directories that are named, has no volumes of the engine's own making, and logs to a group of its own.
    properties |= {"volumes": [], "mountPoints": []}
    properties.pop("logConfiguration", None)
    properties["resourceRequirements"] = [n for n in properties["resourceRequirements"] if n["type"] != "GPU"]
    reached = {"AWS_ENDPOINT_URL": f"http://{JOBS_REACH}:{port}", **CREDENTIALS}
    properties["environment"] += [{"name": name, "value": value} for name, value in reached.items()]
    path = work / "job-definition.json"
    path.write_text(json.dumps(definition), encoding="utf-8")
    return path


@contextmanager
def _account(work: Path) -> Iterator[int]:
    """Port of an AWS account with a bucket and a job queue, on loopback: who reaches it starts containers here."""
    port = _free_port()
    log = work / "moto.log"
    command = [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("w", encoding="utf-8") as output:
        environment = {**os.environ, **CREDENTIALS, "MOTO_PORT": str(port)}
        if LOCAL_ENGINE:
            environment["MOTO_DOCKER_NETWORK_MODE"] = "host"
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_for(f"http://127.0.0.1:{port}/moto-api/", server, log)
        _fill(f"http://127.0.0.1:{port}")
        yield port
    finally:
        server.terminate()
        server.wait()


def _fill(url: str) -> None:
    session: Any = boto3.session.Session(
        CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"], region_name=REGION
    )
    s3, iam, batch = (session.client(service, endpoint_url=url) for service in ("s3", "iam", "batch"))
    s3.create_bucket(Bucket=BUCKET)
    role = iam.create_role(RoleName=QUEUE, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    environment = batch.create_compute_environment(
        computeEnvironmentName=QUEUE, type="UNMANAGED", state="ENABLED", serviceRole=role
    )["computeEnvironmentArn"]
    order = [{"order": 1, "computeEnvironment": environment}]
    batch.create_job_queue(jobQueueName=QUEUE, state="ENABLED", priority=1, computeEnvironmentOrder=order)


def _wait_for(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5):
                return
        except OSError:
            if server.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"moto did not start:\n{log.read_text(encoding='utf-8')}") from None
            time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except programs.ProgramError as error:
        sys.exit(f"nox -s release needs a running Docker: {error}")
