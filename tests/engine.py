"""A working Docker Engine, a client that builds with BuildKit and a base image, for the tests that run containers.

What is there is used. Where there is no engine and this is root on Debian, one is installed and started, with all that
it keeps in PLACE; when the last test run that uses it is gone, however that ended, it is stopped. Where the base image
of the Dockerfiles can't be pulled, one like it is made from Debian packages. What a test run made in the engine is
removed when it is gone, also by `kill -9`.
"""

import fcntl
import hashlib
import json
import os
import shutil
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

# Kept from run to run: with the layers of the last images a run takes a fraction of the time.
PLACE = Path(os.environ.get("TEMPLATE_TESTS_ENGINE", "/var/cache/ml-service-template-tests"))
OWN_HOST = f"unix://{PLACE}/docker.sock"
# The client that Debian's package brings: an older one may come first on the PATH.
DEBIANS_CLIENT = "/usr/bin/docker"
# Another engine of this machine has docker0, which each engine that starts with it removes and makes anew; and what it
# gives to networks of its own begins at 172.17.0.0.
BRIDGE, BRIDGE_ADDRESS, NETWORKS = "ml-tests0", "10.213.0.1/20", "10.213.16.0/20"
IMAGES = "ml-service-template-tests"
# A test run is over by then; what an older one made was left behind when the machine went down with it.
LONGEST_RUN_SECONDS = 3600
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


class EngineError(Exception):
    """There is no engine to be had here; the message says what to install or to do."""


@dataclass(frozen=True)
class Engine:
    """An engine that answers: client is the program, host its address (unix://... or tcp://...)."""

    client: str
    host: str
    base_image: str = ""
    session: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """Environment for the client, and for every other program that is to find this engine."""
        return {**os.environ, "DOCKER_HOST": self.host, "DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain"}

    @property
    def socket(self) -> str:
        """Path of the engine's socket where the engine runs, for containers that are to use it.

        Docker Desktop and its like run it in a virtual machine, with the socket in its usual place there.
        """
        on_this_machine = sys.platform == "linux" and self.host.startswith("unix://")
        return self.host.removeprefix("unix://") if on_this_machine else "/var/run/docker.sock"

    @property
    def project(self) -> str:
        """Name of this session's Compose project."""
        return f"{IMAGES}-{self.session}"

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a docker command; output and error are one text. RuntimeError with it if that fails and `check`."""
        result = subprocess.run(
            [self.client, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        if check and result.returncode:
            raise RuntimeError(f"docker {' '.join(arguments)}: {result.stdout}")
        return result

    def output(self, *arguments: str) -> str:
        """What a docker command says, without the line break at the end. RuntimeError if it fails."""
        return self.run(*arguments).stdout.strip()

    def build(self, context: Path, dockerfile: str, name: str, *options: str, **arguments: str) -> str:
        """Build an image of the context with options and build arguments; its tag, of this session only."""
        tag = f"{IMAGES}/{name}:{self.session}"
        given = {"BASE_IMAGE": self.base_image, **{name: os.environ[name] for name in PROXIES if name in os.environ}}
        given_options = [f"--build-arg={name}={value}" for name, value in {**given, **arguments}.items()]
        self.run("build", "--tag", tag, "--file", str(context / dockerfile), *given_options, *options, str(context))
        return tag

    def containers(self, image: str, *options: str) -> list[str]:
        """Ids of the containers that were started by this tag.

        Not by `--filter ancestor`: another run's image of the same content is the same image by another tag.
        """
        listed = self.output("ps", *options, "--format", "{{.ID}} {{.Image}}").splitlines()
        return [line.split()[0] for line in listed if line.split()[1] == image]

    def remove(self, session: str) -> None:
        """Remove what a session made: images, all containers of them, and the network of its Compose project."""
        for image in self.images():
            if image.endswith(f":{session}"):
                for container in self.containers(image, "--all"):
                    self.run("rm", "--force", "--volumes", container, check=False)
                self.run("rmi", "--force", image, check=False)
        for network in self.networks():
            if network.startswith(f"{IMAGES}-{session}"):
                self.run("network", "rm", network, check=False)

    def images(self) -> list[str]:
        """Tags of the images that sessions built, of this one and others."""
        references = ("images", "--filter", f"reference={IMAGES}/*", "--format", "{{.Repository}}:{{.Tag}}")
        return self.output(*references).split()

    def networks(self) -> list[str]:
        """Names of the networks of sessions' Compose projects."""
        return self.output("network", "ls", "--filter", f"name={IMAGES}-", "--format", "{{.Name}}").split()


@contextmanager
def open_engine(base_image: str) -> Iterator[Engine]:
    """An engine with the base image, or one that can stand in for it. EngineError if there is none to be had.

    What is made in it by this session is removed at the end, or when this process is gone.
    """
    with _answering() as found:
        _remove_leftovers(found)
        engine = Engine(found.client, found.host, _base_image(found, base_image), _new_session())
        remover = [sys.executable, str(Path(__file__).resolve()), engine.client, engine.host, engine.session]
        # In a session of its own, so that Ctrl-C does not end it. It removes when its input ends, however that comes.
        with subprocess.Popen(remover, stdin=subprocess.PIPE, start_new_session=True, cwd="/"):
            yield engine


def _new_session() -> str:
    return f"{int(time.time())}-{uuid.uuid4().hex[:8]}"


def _remove_when_input_ends(engine: Engine) -> None:
    with ExitStack() as held:
        if engine.host == OWN_HOST:
            # So that it is not stopped before.
            users = held.enter_context((PLACE / "users").open("w"))
            fcntl.flock(users, fcntl.LOCK_SH)
        sys.stdin.read()
        engine.remove(engine.session)


def _remove_leftovers(engine: Engine) -> None:
    names = [image.rpartition(":")[2] for image in engine.images()]
    names += [network.removeprefix(f"{IMAGES}-").partition("_")[0] for network in engine.networks()]
    for session in set(names):
        started = session.partition("-")[0]
        if started.isdigit() and int(started) < time.time() - LONGEST_RUN_SECONDS:
            engine.remove(session)


@contextmanager
def _answering() -> Iterator[Engine]:
    """The engine that is there, or one of our own for the time being."""
    clients = [path for path in (shutil.which("docker"), DEBIANS_CLIENT) if path and Path(path).exists()]
    there = next((host for host in map(_configured_host, clients) if host), None)
    if there:
        yield Engine(_client_with_buildkit(clients), there)
        return
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("apt-get"):
        raise EngineError(
            "The tests of the images need a Docker Engine, and none answers here. Start Docker Desktop or the docker "
            "service, or install one; then `docker version` must show a server. To run everything else: "
            "nox -s tests -- -m 'not docker'"
        )
    if not shutil.which("dockerd") or not shutil.which("ip"):
        install("docker.io", "iptables", "iproute2")
    with _own_engine() as host:
        engine = Engine(_client_with_buildkit([*clients, DEBIANS_CLIENT]), host)
        # Layers of a few runs; this engine would keep all of them for ever.
        engine.run("builder", "prune", "--force", "--keep-storage=10GB", check=False)
        yield engine


def _configured_host(client: str) -> str | None:
    """Address of the engine that a client is set up for, by DOCKER_HOST or its context, if it answers."""
    inspected = subprocess.run(
        [client, "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"], capture_output=True, text=True
    )
    host = os.environ.get("DOCKER_HOST") or inspected.stdout.strip()
    return host if host and _answers(client, host) else None


def _answers(client: str, host: str) -> bool:
    version = [client, "version", "--format", "{{.Server.Version}}"]
    return subprocess.run(version, env={**os.environ, "DOCKER_HOST": host}, capture_output=True).returncode == 0


def _client_with_buildkit(clients: list[str]) -> str:
    """The first client that builds with BuildKit: by buildx, or up to version 22 by itself."""
    for client in clients:
        version = subprocess.run([client, "--version"], capture_output=True, text=True).stdout
        major = version.removeprefix("Docker version ").partition(".")[0]
        buildx = subprocess.run([client, "buildx", "version"], capture_output=True).returncode == 0
        if buildx or (major.isdigit() and int(major) < 23):
            return client
    raise EngineError(
        f"No Docker client here builds with BuildKit (looked at {', '.join(clients)}): install its buildx plugin, "
        "in Debian and Ubuntu the package docker-buildx or docker-buildx-plugin."
    )


def install(*packages: str) -> None:
    """Install packages of Debian. Raises EngineError with what apt said."""
    apt = ("apt-get", "-o", "DPkg::Lock::Timeout=300", "-qq")
    for command in ((*apt, "update"), (*apt, "install", "--yes", "--no-install-recommends", *packages)):
        result = subprocess.run(
            command,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if result.returncode:
            raise EngineError(f"Install {' and '.join(packages)}; {' '.join(command)} failed:\n{result.stdout}")


@contextmanager
def _own_engine() -> Iterator[str]:
    """Address of the engine in PLACE, shared by all test runs of this machine and stopped after the last of them.

    Every user holds a shared lock, which the kernel takes back from a process that was killed. The engine's keeper
    waits for the exclusive one.
    """
    PLACE.mkdir(parents=True, exist_ok=True)
    with (PLACE / "users").open("w") as users, (PLACE / "starting").open("w") as starting:
        fcntl.flock(users, fcntl.LOCK_SH)
        fcntl.flock(starting, fcntl.LOCK_EX)
        if not _answers(DEBIANS_CLIENT, OWN_HOST):
            with (PLACE / "dockerd.log").open("w") as log:
                # In a session of its own, so that Ctrl-C and whatever ends the tests does not end it half-way.
                keeper = [sys.executable, str(Path(__file__).resolve())]
                subprocess.Popen(
                    keeper, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
                )
            deadline = time.monotonic() + 60
            while not _answers(DEBIANS_CLIENT, OWN_HOST):
                if time.monotonic() > deadline:
                    end = (PLACE / "dockerd.log").read_text(errors="replace")[-2000:]
                    raise EngineError(f"dockerd did not start; the end of {PLACE / 'dockerd.log'}:\n{end}")
                time.sleep(0.2)
        fcntl.flock(starting, fcntl.LOCK_UN)
        yield OWN_HOST


def _keep() -> None:
    """Run dockerd until it has no user any more."""
    make_bridge()
    daemon = subprocess.Popen(_daemon(), stdin=subprocess.DEVNULL)
    with (PLACE / "users").open("w") as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        daemon.terminate()
        try:
            daemon.wait(60)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
    subprocess.run(["ip", "link", "delete", BRIDGE])


def _daemon() -> list[str]:
    """The engine's command: files, socket, bridge and addresses of its own."""
    return [
        *("dockerd", "--data-root", str(PLACE / "data"), "--exec-root", str(PLACE / "exec")),
        *("--pidfile", str(PLACE / "docker.pid"), "--host", OWN_HOST),
        *("--bridge", BRIDGE, "--default-address-pool", f"base={NETWORKS},size=24"),
    ]


def make_bridge() -> None:
    """Make the engine's bridge, unless it is there; dockerd makes none but docker0."""
    if subprocess.run(["ip", "link", "show", BRIDGE], capture_output=True).returncode:
        subprocess.run(["ip", "link", "add", "name", BRIDGE, "type", "bridge"], check=True)
    subprocess.run(["ip", "address", "replace", BRIDGE_ADDRESS, "dev", BRIDGE], check=True)
    subprocess.run(["ip", "link", "set", BRIDGE, "up"], check=True)


def _base_image(engine: Engine, wanted: str) -> str:
    """The image wanted, pulled if need be, or the stand-in for it."""
    stand_in, options, environment = _stand_in()
    for image in (wanted, stand_in):
        if engine.run("image", "inspect", image, check=False).returncode == 0:
            return image
    pulled = engine.run("pull", "--quiet", wanted, check=False)
    if pulled.returncode == 0:
        return wanted
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("apt-get"):
        raise EngineError(f"The base image {wanted} is needed and cannot be pulled: {pulled.stdout.strip()}")
    if not shutil.which("mmdebstrap"):
        install("mmdebstrap")
    settings = [f"--change=ENV {name}={value}" for name, value in environment.items()]
    with subprocess.Popen(
        ["mmdebstrap", "--quiet", *options, "trixie"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as system:
        imported = subprocess.run(
            [engine.client, "import", *settings, "-", stand_in],
            env=engine.environment,
            stdin=system.stdout,
            capture_output=True,
            text=True,
        )
        said = system.stderr.read().decode(errors="replace") if system.stderr else ""
    if system.returncode or imported.returncode:
        engine.run("rmi", "--force", stand_in, check=False)
        raise EngineError(f"No base image: {wanted} cannot be pulled, mmdebstrap failed: {said}{imported.stderr}")
    return stand_in


def _stand_in() -> tuple[str, list[str], dict[str, str]]:
    """Name of the stand-in, options of mmdebstrap and environment for it.

    It trusts the certificates that this machine trusts, by which alone it may reach a package index.
    """
    bundle = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    inside = "/etc/ssl/certs/ca-certificates.crt"
    options = [
        "--variant=minbase",
        "--include=python3,python3-venv,ca-certificates",
        '--customize-hook=ln -s python3 "$1/usr/bin/python"',
        *([f'--customize-hook=cp "{bundle}" "$1{inside}"'] if bundle else []),
    ]
    environment = dict.fromkeys(("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE"), inside)
    recipe = json.dumps([options, environment]).encode() + (Path(bundle).read_bytes() if bundle else b"")
    return f"{IMAGES}-base:{hashlib.sha256(recipe).hexdigest()[:12]}", options, environment


if __name__ == "__main__":
    match sys.argv[1:]:
        case [client, host, session]:
            _remove_when_input_ends(Engine(client, host, session=session))
        case _:
            _keep()
