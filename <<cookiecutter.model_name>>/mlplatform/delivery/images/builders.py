"""What builds, reads and pushes images: Docker with its daemon, or Buildah without one: `builder` of [delivery].

Both get the same Dockerfile, files and build arguments, and their images go to the same registry.
"""

import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from mlplatform.delivery import programs
from mlplatform.delivery.errors import DeliveryError
from mlplatform.delivery.images.registry import Registry, docker_config_file, docker_environment
from mlplatform.delivery.settings import DeliverySettings

# An image that is not on this machine is pulled first.
READ_SECONDS = 1800
# Older ones lose what a stage with a mounted /tmp has written.
OLDEST_BUILDAH = (1, 39)


class Builder(ABC):
    """A program that builds images. Every call raises DeliveryError."""

    @abstractmethod
    def check(self) -> str:
        """Check that images can be built here, and say with what."""

    @abstractmethod
    def build(self, name: str, dockerfile: Path, context: Path, arguments: Mapping[str, str]) -> None:
        """Build an image; steps whose files and arguments are the same as before come from the builder's cache."""

    @abstractmethod
    def read(self, registry: Registry, name: str, path: str) -> str:
        """The text of a file in an image, which is pulled from its registry if need be. Only `cat` runs in it."""

    @abstractmethod
    def push(self, registry: Registry, name: str) -> None:
        """Push an image that was built here."""


def builder(settings: DeliverySettings) -> Builder:
    """The builder that the settings name."""
    return Buildah() if settings.builder == "buildah" else Docker()


class Docker(Builder):
    """Docker with BuildKit, by an engine that answers."""

    def check(self) -> str:
        """See Builder."""
        return f"engine {programs.output('docker', 'version', '--format={{.Server.Version}}').strip()}"

    def build(self, name: str, dockerfile: Path, context: Path, arguments: Mapping[str, str]) -> None:
        """See Builder."""
        programs.follow(
            *("docker", "build", "--tag", name, "--file", str(dockerfile), *_options(arguments), str(context)),
            environment={"DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain"},
        )

    def read(self, registry: Registry, name: str, path: str) -> str:
        """See Builder."""
        command = ("docker", "run", "--rm", "--network=none", "--entrypoint=cat", name, path)
        with docker_environment(registry) as environment:
            return programs.output(*command, environment=environment, seconds=READ_SECONDS)

    def push(self, registry: Registry, name: str) -> None:
        """See Builder."""
        with docker_environment(registry) as environment:
            programs.follow("docker", "push", name, environment=environment)


class Buildah(Builder):
    """Buildah, which needs neither a daemon nor root. BUILDAH_ISOLATION and its storage are the agent's to set."""

    def check(self) -> str:
        """See Builder."""
        said = programs.output("buildah", "--version").strip()
        version = re.search(r"version (\d+)\.(\d+)", said)
        if version is None or (int(version[1]), int(version[2])) < OLDEST_BUILDAH:
            oldest = ".".join(map(str, OLDEST_BUILDAH))
            raise DeliveryError(f"{said}: must be {oldest} or newer, as older ones lose files of an image's last stage")
        return said

    def build(self, name: str, dockerfile: Path, context: Path, arguments: Mapping[str, str]) -> None:
        """See Builder."""
        self.check()
        # Docker's format, because the other one knows no HEALTHCHECK. Layers are what a second build starts from.
        options = ("--format=docker", "--layers", "--tag", name)
        with tempfile.TemporaryDirectory(prefix="delivery-buildah-") as temporary:
            own = Path(temporary) / "Dockerfile"
            own.write_text(_with_values(dockerfile.read_text(encoding="utf-8"), arguments), encoding="utf-8")
            programs.follow("buildah", "build", *options, "--file", str(own), *_options(arguments), str(context))

    def read(self, registry: Registry, name: str, path: str) -> str:
        """See Builder."""
        with docker_environment(registry) as environment:
            command = ("buildah", "from", *_access(registry, environment), name)
            container = programs.output(*command, environment=environment, seconds=READ_SECONDS).strip()
            try:
                return programs.output("buildah", "run", container, "--", "cat", path)
            finally:
                programs.output("buildah", "rm", container)

    def push(self, registry: Registry, name: str) -> None:
        """See Builder."""
        with docker_environment(registry) as environment:
            options = ("--quiet", *_access(registry, environment))
            programs.follow("buildah", "push", *options, name, f"docker://{name}", environment=environment)


def _with_values(dockerfile: str, arguments: Mapping[str, str]) -> str:
    """The Dockerfile with the values of arguments in place of `=${NAME}`, as LABEL and ENV have them.

    Buildah takes such a line from its cache if its text is the same, whatever the value of the argument is now.
    """

    def assigned(found: re.Match[str]) -> str:
        value = arguments.get(found[1])
        if value is None:
            return found[0]
        quoted = re.sub(r'([\\"$])', r"\\\1", value)
        return f'="{quoted}"'

    return re.sub(r"=\$\{(\w+)\}", assigned, dockerfile)


def _options(arguments: Mapping[str, str]) -> list[str]:
    return [f"--build-arg={name}={value}" for name, value in arguments.items()]


def _access(registry: Registry, environment: Mapping[str, str]) -> list[str]:
    """Options by which Buildah reaches a registry as Docker does: with its logins, on this machine without TLS."""
    logins = docker_config_file(environment)
    return [
        *([f"--authfile={logins}"] if logins.is_file() else []),
        *(["--tls-verify=false"] if registry.local else []),
    ]
