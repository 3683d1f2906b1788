"""Containers of the serving image."""

from collections.abc import Iterator
from contextlib import contextmanager

from engine import Engine
from rendered import get

from containers.waiting import wait_for

# As a Kubernetes cluster with the restricted profile would start it.
LOCKED_UP = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")


@contextmanager
def running(engine: Engine, image: str, *options: str) -> Iterator[tuple[str, str]]:
    """Id and base URL of a locked-up container of the server, ready; removed in any case."""
    container = engine.output("run", "--detach", *LOCKED_UP, "--publish=127.0.0.1::8080", *options, image)
    try:
        port = engine.output("port", container, "8080").rpartition(":")[2]
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: _ready(url), 120, lambda: engine.output("logs", container))
        yield container, url
    finally:
        engine.run("rm", "--force", "--volumes", container, check=False)


def _ready(url: str) -> bool:
    try:
        return get(f"{url}/v2/health/ready")[0] == 200
    except (OSError, ValueError):
        return False
