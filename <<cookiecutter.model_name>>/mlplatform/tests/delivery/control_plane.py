"""A control plane of Kubernetes for tests: etcd, API server, controllers and scheduler, and a node without containers.

The programs are `etcd` and `kube` in the directory that CLUSTER_PROGRAMS names; `nox -s cluster_programs` of the
template's repository makes them.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import requests

from mlplatform.tests.conftest import ROOT
from mlplatform.tests.delivery.kubelet import Api

ADMIN, CI = "admin-token", "ci-token"
LONGEST_SECONDS = 120
KUBECONFIG = """apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: "{url}", insecure-skip-tls-verify: true}}}}]
users: [{{name: u, user: {{token: {token}}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
current-context: c
"""


@dataclass
class ControlPlane:
    """A control plane whose API server can be stopped and started. behaviour: directory of kubelet.py's."""

    directory: Path
    programs: Path
    port: int
    etcd_port: int
    stack: ExitStack
    _api: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        """Of the API server."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def api(self) -> Api:
        """The API server, as an administrator asks it."""
        return Api(self.url, ADMIN)

    def kubeconfig(self, token: str = ADMIN) -> Path:
        """A file for kubectl, for the administrator or for the user `ci`, who may nothing at first."""
        path = self.directory / f"{token}.conf"
        path.write_text(KUBECONFIG.format(url=self.url, token=token))
        return path

    def start_api(self) -> None:
        """Start the API server and wait until it is ready."""
        key = self.directory / "sa.key"
        self._api = self._run(
            *("kube", "apiserver", f"--etcd-servers=http://127.0.0.1:{self.etcd_port}", "--bind-address=127.0.0.1"),
            *(f"--secure-port={self.port}", f"--cert-dir={self.directory}", "--authorization-mode=RBAC"),
            *(f"--token-auth-file={self.directory}/tokens.csv", "--service-cluster-ip-range=10.214.0.0/24"),
            *(f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}"),
            *("--service-account-issuer=https://kubernetes.default.svc", "--endpoint-reconciler-type=none"),
        )
        end = time.monotonic() + LONGEST_SECONDS
        while not self._ready():
            assert self._api.poll() is None, self.log("apiserver")
            assert time.monotonic() < end, self.log("apiserver")
            time.sleep(0.2)

    def stop_api(self) -> None:
        """As if its machine had lost power."""
        assert self._api
        self._api.kill()
        self._api.wait()

    def start(self) -> None:
        """Start all parts."""
        subprocess.run(
            ["openssl", "genrsa", "-out", str(self.directory / "sa.key"), "2048"], check=True, capture_output=True
        )
        (self.directory / "tokens.csv").write_text(f'{ADMIN},admin,admin,"system:masters"\n{CI},ci,ci,"ci"\n')
        client, peer = f"http://127.0.0.1:{self.etcd_port}", "http://127.0.0.1:0"
        self._run(
            *("etcd", f"--data-dir={self.directory}/etcd", f"--listen-client-urls={client}"),
            *(f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}", "--unsafe-no-fsync"),
        )
        self.start_api()
        common = (f"--kubeconfig={self.kubeconfig()}", "--leader-elect=false", "--bind-address=127.0.0.1")
        key = f"--service-account-private-key-file={self.directory}/sa.key"
        self._run("kube", "controller-manager", key, "--secure-port=0", *common)
        self._run("kube", "scheduler", "--secure-port=0", *common)
        kubelet = [sys.executable, "-m", "mlplatform.tests.delivery.kubelet", self.url, ADMIN, str(self.directory)]
        self._started("kubelet", kubelet)

    def log(self, part: str) -> str:
        """The end of what a part has said."""
        return (self.directory / f"{part}.log").read_text(errors="replace")[-3000:]

    def _ready(self) -> bool:
        try:
            return self.api.session.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def _run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        name = arguments[0] if program == "kube" else program
        return self._started(name, [str(self.programs / program), *arguments])

    def _started(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        log: IO[bytes] = self.stack.enter_context((self.directory / f"{name}.log").open("ab"))
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
        self.stack.callback(_end, process)
        return process


@contextmanager
def control_plane(directory: Path, programs: Path, port: int, etcd_port: int) -> Iterator[ControlPlane]:
    """A control plane that is there until the end, with its files in a directory."""
    with ExitStack() as stack:
        plane = ControlPlane(directory, programs, port, etcd_port, stack)
        plane.start()
        yield plane


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
