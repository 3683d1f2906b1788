"""What the tests with real containers share, made once: nodes, a trained model in a serving image, a live service."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import pytest
from aws import CREDENTIALS
from botocore.exceptions import BotoCoreError, ClientError
from conftest import Render
from containers.waiting import wait_for
from engine import open_engine
from rendered import DEFAULTS, nox, published_model

from nodes.cluster import IMPOSSIBLE, Cluster, open_cluster
from nodes.delivering import BASE, Site
from nodes.layout import OUTSIDE

BASE_IMAGE = "python:3.13-slim-trixie"
NAME = DEFAULTS["model_name"]
BUCKET = DEFAULTS["artifact_bucket"]
REGION = DEFAULTS["aws_region"]
NAMESPACE = "live"
KEYS = {name.lower(): value for name, value in CREDENTIALS.items()}
# Pods may reach port 443 of others, and hardly any other.
S3 = f"http://{OUTSIDE}:443"
PRODUCTION = Path("deploy/k8s/overlays/production/kustomization.yaml")
COUNTED = pytest.StashKey[list[str]]()
EVENTS = Path("deploy/k8s/components/events/kustomization.yaml")


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    """Without one everything ends, with one message: to skip would look like success, unless it was asked for."""
    nodes = int(os.environ.get("TEMPLATE_TESTS_NODES", "3"))
    if not nodes:
        pytest.skip("TEMPLATE_TESTS_NODES is 0")
    with ExitStack() as used:
        try:
            found = used.enter_context(open_cluster(nodes))
        except IMPOSSIBLE as error:
            pytest.exit(str(error), returncode=1)
        yield found


@pytest.fixture(scope="package")
def store(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """boto3's client of a store that pods reach at S3. cluster: has the network for it."""
    log = tmp_path_factory.mktemp("s3") / "moto.log"
    command = [sys.executable, "-c", "from moto.server import main; main()", "-H", OUTSIDE, "-p", "443"]
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **CREDENTIALS})
    try:
        found = boto3.client("s3", endpoint_url=S3, region_name=REGION, **KEYS)
        wait_for(lambda: answers(found), 60, log.read_text)
        found.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield found
    finally:
        server.terminate()
        server.wait()


def answers(store: Any) -> bool:
    """Whether the store is there."""
    try:
        store.list_buckets()
    except (BotoCoreError, ClientError):
        return False
    return True


@pytest.fixture(scope="package")
def site(cluster: Cluster, store: Any, render: Render, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A repository with a model in an image, and a namespace that enforces Pod Security `restricted`.

    store: where its events go.
    """
    directory = tmp_path_factory.mktemp("nodes")
    repository = directory / NAME
    shutil.copytree(render({}), repository)
    make_room(repository)
    ship_events(repository)
    with open_engine(BASE_IMAGE) as engine:
        (directory / "bin").mkdir()
        (directory / "bin" / "docker").symlink_to(engine.client)
        environment = {
            **engine.environment,
            "PATH": os.pathsep.join((str(directory / "bin"), str(Path(sys.executable).parent), os.environ["PATH"])),
            "KUBECONFIG": str(cluster.kubeconfig),
            "DELIVERY_BASE_IMAGE": engine.base_image,
            "DELIVERY_CONTAINER_REGISTRY": f"{cluster.registry}/tried",
            "DELIVERY_KUBERNETES_NAMESPACE": NAMESPACE,
            "DELIVERY_STORAGE_URL": str(repository / "store"),
            "DELIVERY_POLL_SECONDS": "1",
            "SERVING_RUNTIME": "litert",
        }
        trained = nox(repository, "-s", "train", "--", "--epochs", "3")
        assert trained.returncode == 0, trained.stdout
        model = published_model(repository)
        bundled = nox(repository, "-s", "delivery", "--", "bundle", model["id"], **environment)
        found = re.search(rf"^{cluster.registry}/\S+@sha256:[0-9a-f]{{64}}$", bundled.stdout, re.MULTILINE)
        assert found, bundled.stdout
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}])
        samples = [sample["instance"] for sample in model["properties"]["samples"]]
        yield Site(cluster, repository, NAMESPACE, NAME, found[0], samples, environment)


def make_room(repository: Path) -> None:
    """Let two or three pods a node run on a machine with two cores, and none that is not asked for."""
    deployment = repository / BASE / "deployment.yaml"
    deployment.write_text(deployment.read_text().replace('cpu: "1"', "cpu: 500m"))
    autoscaler = repository / BASE / "horizontalpodautoscaler.yaml"
    autoscaler.write_text(autoscaler.read_text().replace("maxReplicas: 10", "maxReplicas: 2"))


def ship_events(repository: Path) -> None:
    """Take the component events, with the keys to a store of ours."""
    production = repository / PRODUCTION
    production.write_text(production.read_text().replace("components: []", "components: [../../components/events]"))
    component = repository / EVENTS
    keys = {"AWS_ENDPOINT_URL": S3, **CREDENTIALS}
    lines = "".join(f'{" " * 18}- name: {name}\n{" " * 20}value: "{value}"\n' for name, value in keys.items())
    content = component.read_text()
    assert content.count("                env:\n") == 1
    component.write_text(content.replace("                env:\n", f"                env:\n{lines}"))


@pytest.fixture(scope="package")
def released(site: Site) -> Site:
    """The repository, whose service runs in production."""
    site.deploy()
    return site


@pytest.fixture
def live(released: Site, request: pytest.FixtureRequest) -> Iterator[Site]:
    """The repository, whose service has two pods that ship their events. What callers get is shown at the end."""
    released.wait_for_pods(2)
    released.loads.clear()
    yield released
    counted = request.config.stash.setdefault(COUNTED, [])
    counted += [f"{request.node.name}: {load}" for load in released.loads]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if counted := config.stash.get(COUNTED, []):
        terminalreporter.section("requests")
        for line in counted:
            terminalreporter.write_line(line)
