"""What all tests share."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from mlplatform.tests.faults import FaultyProxy

ROOT = Path(__file__).resolve().parents[2]

Command = Callable[..., subprocess.CompletedProcess[str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several run at a time: long ones begin first, and a file is one process's unless its tests are `apart`."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
    for item in items:
        if not item.get_closest_marker("apart"):
            # The models that serving is tried with take long to make, and their server to start.
            shared = "published" if "published" in getattr(item, "fixturenames", ()) else item.nodeid.partition("::")[0]
            item.add_marker(pytest.mark.xdist_group(shared))


@pytest.fixture(autouse=True)
def _outside_nox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages name the next command as it is typed outside a session of nox."""
    monkeypatch.delenv("NOX_CURRENT_SESSION", raising=False)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run `python -m mlplatform <arguments>` in an empty directory with a service.toml."""
    (tmp_path / "service.toml").write_text('[service]\nname = "under-test"\n')
    return lambda *arguments, **environment: run(tmp_path, *arguments, **environment)


def run(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a directory; no variable of the caller's that is a setting gets through."""
    sections = ("SERVICE", "STORAGE", "TRAINING", "SERVING", "DELIVERY", "GATE_", "GHOST", "NOX_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(sections)}
    return subprocess.run(
        [sys.executable, "-m", "mlplatform", *arguments],
        cwd=directory,
        env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@dataclass(frozen=True)
class Bucket:
    """A new bucket of moto's server, reached through a proxy that makes faults.

    client: boto3's, around the proxy; environment: what makes boto3 go through it.
    """

    name: str
    faults: FaultyProxy
    client: Any
    environment: dict[str, str]

    @property
    def url(self) -> str:
        """Root of a store in it."""
        return f"s3://{self.name}/store"

    def objects(self) -> dict[str, bytes]:
        """What stands in the store, by key."""
        found = self.client.list_objects_v2(Bucket=self.name, Prefix="store/").get("Contents", [])
        return {
            each["Key"].removeprefix("store/"): self.client.get_object(Bucket=self.name, Key=each["Key"])["Body"].read()
            for each in found
        }


@pytest.fixture(scope="session")
def s3_server() -> Iterator[tuple[str, Any]]:
    """URL of moto's server, over real HTTP, and a client of it."""
    import logging

    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    yield url, boto3.session.Session("test", "test", region_name="us-east-1").client("s3", endpoint_url=url)
    server.stop()


@pytest.fixture
def bucket(s3_server: tuple[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket. In this process boto3 goes through the proxy and makes three attempts."""
    name = f"bucket-{uuid4().hex[:12]}"
    for variable in [variable for variable in os.environ if variable.startswith("AWS_")]:
        monkeypatch.delenv(variable)
    environment = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(tmp_path / "absent"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "absent"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "3",
    }
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    server, client = s3_server
    client.create_bucket(Bucket=name)
    faults = FaultyProxy(server)
    with faults.running() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        yield Bucket(name, faults, client, {**environment, "AWS_ENDPOINT_URL": url})
