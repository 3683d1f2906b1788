from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlplatform.tests.serving.running import Running, service_toml, serving


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A directory with a service.toml and a store that holds `pictures`; and the Keras model itself."""
    from mlplatform.tests.serving.models import publish_pictures

    directory = tmp_path_factory.mktemp("published")
    _, model = publish_pictures(directory)
    return service_toml(directory), model


@pytest.fixture(scope="session")
def toml(published: tuple[Path, Any]) -> Path:
    return published[0]


@pytest.fixture(scope="session")
def reference(published: tuple[Path, Any]) -> Any:
    return published[1]


@pytest.fixture(scope="session")
def server(toml: Path) -> Iterator[Running]:
    """A server of `pictures` that all tests share which leave it as it was."""
    # A long queue: these tests are about other things than a machine that is busy.
    with serving(toml, max_body_bytes=4 << 20, queue_ms=5000) as running:
        running.wait_for(200)
        yield running


@pytest.fixture(scope="session")
def everything_toml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service.toml with a store that holds the model with inputs of every kind."""
    from mlplatform.tests.serving.models import publish_everything

    directory = tmp_path_factory.mktemp("everything")
    publish_everything(directory)
    return service_toml(directory)


@pytest.fixture(scope="session")
def server_of_everything(everything_toml: Path) -> Iterator[Running]:
    """A server of the model with inputs of every kind."""
    with serving(everything_toml) as running:
        running.wait_for(200)
        yield running


@pytest.fixture(scope="session")
def light(toml: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The service.toml of `pictures` on LiteRT, for servers of a test's own: they start in half a second."""
    directory = tmp_path_factory.mktemp("light")
    (directory / "store").symlink_to(toml.parent / "store")
    return service_toml(directory, runtime="litert")
