"""A client of image registries, over the Docker Registry HTTP API v2, which ECR speaks as well.

https://distribution.github.io/distribution/spec/api. Like Docker, a registry on this machine is spoken to without TLS.
"""

import base64
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from mlplatform.delivery import aws
from mlplatform.delivery.errors import DeliveryError
from mlplatform.delivery.programs import ProgramError, output

ECR = re.compile(r"\d{12}\.dkr\.ecr(-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?")
LOOPBACK = re.compile(r"(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?")
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
REFERENCE = re.compile(r"(?P<host>[^/]+)/(?P<repository>[^@]+?)(:[\w.-]+)?@(?P<digest>sha256:[0-9a-f]{64})")
# Connect, and between two bytes of an answer.
TIMEOUT_SECONDS = (5, 30)
RETRIES = Retry(total=5, backoff_factor=0.3, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False)


@dataclass(frozen=True)
class Image:
    """An image by digest, which never comes to mean another image."""

    host: str
    repository: str
    digest: str

    @property
    def name(self) -> str:
        """Registry and repository."""
        return f"{self.host}/{self.repository}"

    @property
    def reference(self) -> str:
        """As docker and Kubernetes take it."""
        return f"{self.name}@{self.digest}"

    @classmethod
    def parse(cls, reference: str) -> "Image | None":
        """The image of a reference by digest, or None if it is none."""
        match = REFERENCE.fullmatch(reference)
        return cls(match["host"], match["repository"], match["digest"]) if match else None


@dataclass(frozen=True)
class Login:
    """Credentials for a registry."""

    user: str
    password: str


class Registry:
    """One registry, by the host of an image's name; local: on this machine. Every call raises DeliveryError."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.local = bool(LOOPBACK.fullmatch(host))
        self._session = requests.Session()
        # A registry on this machine is not reached through a proxy.
        self._session.trust_env = not self.local
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=RETRIES))
        self._login: Login | None = None
        self._header: dict[str, str] | None = None

    def login(self) -> Login | None:
        """ECR's token for the AWS credentials, or what `docker login` keeps for this registry, or None."""
        if self._login is None:
            ecr = ECR.fullmatch(self.host)
            self._login = _ecr_login(self.host, ecr["region"]) if ecr else _docker_login(self.host)
        return self._login

    def check(self) -> None:
        """Check that the registry answers and accepts the credentials."""
        self._ask("GET", "/v2/", "")

    def tags(self, repository: str) -> list[str]:
        """The tags of a repository, in no order; none if there is no such repository."""
        tags: list[str] = []
        path = f"/v2/{repository}/tags/list?n=1000"
        while path:
            answer = self._ask("GET", path, repository)
            if answer.status_code == 404:
                return tags
            tags += answer.json().get("tags") or []
            path = answer.links.get("next", {}).get("url", "").removeprefix(f"{self._base}")
        return tags

    def digest(self, repository: str, reference: str) -> str | None:
        """The digest that a tag or digest stands for, or None if it is not there."""
        answer = self._ask("HEAD", f"/v2/{repository}/manifests/{reference}", repository)
        return answer.headers["Docker-Content-Digest"] if answer.status_code == 200 else None

    def labels(self, image: Image) -> Mapping[str, str]:
        """The labels of an image; of an image for several platforms, those of the first one."""
        manifest = self._manifest(image, image.digest)
        if "manifests" in manifest:
            # buildx adds its record of the build as an image for the platform `unknown`.
            listed = [m for m in manifest["manifests"] if m.get("platform", {}).get("os") != "unknown"]
            manifest = self._manifest(image, listed[0]["digest"])
        config = self._ask("GET", f"/v2/{image.repository}/blobs/{manifest['config']['digest']}", image.repository)
        labels: dict[str, str] = config.json().get("config", {}).get("Labels") or {}
        return labels

    @property
    def _base(self) -> str:
        return f"{'http' if self.local else 'https'}://{self.host}"

    def _manifest(self, image: Image, digest: str) -> dict[str, Any]:
        answer = self._ask("GET", f"/v2/{image.repository}/manifests/{digest}", image.repository)
        if answer.status_code == 404:
            raise DeliveryError(f"{image.name}@{digest}: there is no such image in the registry")
        manifest: dict[str, Any] = answer.json()
        return manifest

    def _ask(self, method: str, path: str, repository: str) -> requests.Response:
        """The answer, 2xx or 404; on a 401 the request is repeated once with credentials."""
        answer = self._send(method, path)
        if answer.status_code == 401:
            self._header = self._authorization(answer.headers.get("WWW-Authenticate", ""))
            answer = self._send(method, path)
        if answer.status_code in (401, 403):
            raise DeliveryError(
                f"registry {self.host}: access to {repository or 'it'} denied ({answer.status_code}); "
                + (
                    "check what the AWS role may do with ECR"
                    if ECR.fullmatch(self.host)
                    else f"docker login {self.host}"
                )
            )
        if answer.status_code >= 400 and answer.status_code != 404:
            raise DeliveryError(f"registry {self.host}: {method} {path} was answered with {answer.status_code}")
        return answer

    def _send(self, method: str, path: str) -> requests.Response:
        headers = {"Accept": ", ".join(MANIFESTS), **(self._header or {})}
        try:
            return self._session.request(method, f"{self._base}{path}", headers=headers, timeout=TIMEOUT_SECONDS)
        except requests.RequestException as error:
            raise DeliveryError(
                f"registry {self.host}: no answer ({type(error).__name__}); check container_registry of [delivery] and "
                "the network"
            ) from error

    def _authorization(self, challenge: str) -> dict[str, str]:
        login = self.login()
        if challenge.lower().startswith("bearer"):
            wanted = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
            auth = (login.user, login.password) if login else None
            try:
                answer = self._session.get(wanted.pop("realm", ""), params=wanted, auth=auth, timeout=TIMEOUT_SECONDS)
                token = answer.json() if answer.ok else {}
            except (requests.RequestException, ValueError) as error:
                raise DeliveryError(f"registry {self.host}: no token to be had ({type(error).__name__})") from error
            return {"Authorization": f"Bearer {token.get('token') or token.get('access_token') or ''}"}
        if login is None:
            return {}
        return {"Authorization": f"Basic {base64.b64encode(f'{login.user}:{login.password}'.encode()).decode()}"}


@contextmanager
def docker_environment(registry: Registry) -> Iterator[dict[str, str]]:
    """Variables with which docker, or Buildah by its configuration, pushes to the registry.

    Where the user's docker is not logged in and the password comes from AWS, a helper of ours gives it to docker, from
    its environment: the password is never written to disk.
    https://docs.docker.com/reference/cli/docker/login/#credential-helper-protocol
    """
    login = registry.login() if ECR.fullmatch(registry.host) else None
    if login is None or registry.host in _docker_config().get("credHelpers", {}):
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="delivery-docker-") as temporary:
        directory = Path(temporary)
        own = docker_config_file({}).parent
        for path in own.iterdir() if own.is_dir() else ():
            if path.name != "config.json":
                (directory / path.name).symlink_to(path)
        config = {name: value for name, value in _docker_config().items() if name not in ("auths", "credsStore")}
        config["credHelpers"] = {registry.host: "delivery"}
        (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
        helper = directory / "docker-credential-delivery"
        helper.write_text('#!/bin/sh\n[ "$1" = get ] && printf %s "$DELIVERY_LOGIN"\n', encoding="utf-8")
        helper.chmod(0o700)
        secret = json.dumps({"ServerURL": registry.host, "Username": login.user, "Secret": login.password})
        programs = f"{directory}{os.pathsep}{os.environ.get('PATH', '')}"
        yield {"DOCKER_CONFIG": str(directory), "PATH": programs, "DELIVERY_LOGIN": secret}


def _ecr_login(host: str, region: str) -> Login:
    with aws.told(f"registry {host}"):
        answer = aws.client("ecr", region).get_authorization_token()
    user, _, password = base64.b64decode(answer["authorizationData"][0]["authorizationToken"]).decode().partition(":")
    return Login(user, password)


def _docker_login(host: str) -> Login | None:
    config = _docker_config()
    helper = config.get("credHelpers", {}).get(host) or config.get("credsStore")
    if helper:
        try:
            credentials = json.loads(output(f"docker-credential-{helper}", "get", stdin=host))
            return Login(credentials["Username"], credentials["Secret"])
        except (ProgramError, ValueError, KeyError):
            # It has none for this registry, which may be open to everybody.
            return None
    kept = config.get("auths", {}).get(host, {}).get("auth")
    if not kept:
        return None
    user, _, password = base64.b64decode(kept).decode().partition(":")
    return Login(user, password)


def docker_config_file(environment: Mapping[str, str]) -> Path:
    """Where docker keeps its logins, with these variables beside this process's own."""
    directory = {**os.environ, **environment}.get("DOCKER_CONFIG")
    return (Path(directory) if directory else Path.home() / ".docker") / "config.json"


def _docker_config() -> dict[str, Any]:
    try:
        config = json.loads(docker_config_file({}).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}
