"""A cluster of Kubernetes on this machine with nodes that run containers: `nox -s cluster_up`, or open_cluster().

Each node is a network namespace with containerd, kubelet, kube-proxy and an enforcer of network policies; beside them
run etcd, API server, controllers, scheduler and metrics-server. All of it lives in namespaces of processes, mounts and
network of its own. When its first process is gone, which ends with this one, the kernel takes all of that away; only
a directory and control groups are left to remove, if need be by the next cluster.
"""

import fcntl
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kube_programs
from engine import PLACE, PROXIES, EngineError, install
from rendered import DIRECTORY, ROOT, module

from nodes.layout import API_PORT, HUB, KUBECONFIG, METRICS_PORT, NETWORK, OUTSIDE, PAUSE, PODS, SERVICES, Node

LINK = "ml-nodes0"
# Those of the rendered side.
TESTS = ROOT / DIRECTORY / "mlplatform" / "tests"
PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
    "iptables": "iptables",
    "ipset": "ipset",
    "ip": "iproute2",
}
CGROUPS = Path("/sys/fs/cgroup")
READY_SECONDS = 180
# metrics-server is a part of the cluster that runs in no pod.
METRICS: list[dict[str, Any]] = [
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "metrics-server", "namespace": "kube-system"},
        "spec": {"ports": [{"name": "https", "port": 443, "targetPort": METRICS_PORT}]},
    },
    {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "metrics-server",
            "namespace": "kube-system",
            "labels": {"kubernetes.io/service-name": "metrics-server"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [HUB], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": METRICS_PORT}],
    },
    {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1beta1.metrics.k8s.io"},
        "spec": {
            "group": "metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": {"name": "metrics-server", "namespace": "kube-system"},
        },
    },
    # The API server asks on behalf of others, but without certificates nobody can tell.
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "metrics"},
        "rules": [
            {"apiGroups": ["metrics.k8s.io"], "resources": ["*"], "verbs": ["get", "list"]},
            {"nonResourceURLs": ["/apis/metrics.k8s.io/*"], "verbs": ["get"]},
        ],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "metrics"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "metrics"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:unauthenticated"}],
    },
]


class ClusterError(Exception):
    """There can be no cluster here; the message says why."""


# What open_cluster() raises.
IMPOSSIBLE = (ClusterError, EngineError, kube_programs.KubeError)


@dataclass
class Cluster:
    """A cluster that runs. registry: address of an image registry for Docker here, from which its nodes pull."""

    directory: Path
    registry: str
    process: "subprocess.Popen[str]"

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "kubeconfig"

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """What kubectl says. Raises RuntimeError with its error."""
        command = [str(Path(sys.executable).with_name("kubectl")), f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def get(self, *arguments: str) -> Any:
        """What `kubectl get` finds, as JSON. Raises RuntimeError."""
        return json.loads(self.kubectl("get", *arguments, "--output=json"))

    def apply(self, objects: list[dict[str, Any]]) -> None:
        """Apply these objects. Raises RuntimeError."""
        given = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.kubectl("apply", "--filename=-", given=given)

    @contextmanager
    def without(self, part: str) -> Iterator[None]:
        """Kill a part, such as apiserver or node-1-kubelet, and start it again at the end."""
        self._tell("stop", part)
        try:
            yield
        finally:
            self._tell("start", part)

    def log(self, part: str) -> str:
        """The end of what a part has said."""
        return (self.directory / "logs" / f"{part}.log").read_text(errors="replace")[-3000:]

    def ready_nodes(self) -> int:
        """How many nodes can run pods; 0 while the API server does not answer."""
        try:
            nodes = self.get("nodes")["items"]
        except RuntimeError:
            return 0
        states = [each for node in nodes for each in node["status"].get("conditions", []) if each["type"] == "Ready"]
        return sum(state["status"] == "True" for state in states)

    def _tell(self, *words: str) -> None:
        assert self.process.stdin
        assert self.process.stdout
        print(*words, file=self.process.stdin, flush=True)
        self.process.stdout.readline()


@contextmanager
def open_cluster(nodes: int = 3) -> Iterator[Cluster]:
    """A cluster whose nodes are ready. Raises ClusterError, EngineError or KubeError if there can be none."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise ClusterError("Nodes that run containers need root on Linux: network namespaces, mounts, control groups.")
    if missing := [package for program, package in PACKAGES.items() if not shutil.which(program)]:
        install(*missing)
    programs = kube_programs.programs()
    directory = PLACE / "ml-nodes"
    with ExitStack() as stack:
        lock = stack.enter_context((PLACE / "nodes.lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ClusterError("Another cluster of the tests runs on this machine; there is room for one.") from None
        # Of one that was killed.
        _remove(directory)
        stack.callback(_remove, directory)
        _write_files(directory, programs, nodes)
        cluster = stack.enter_context(_running(directory, programs, nodes))
        _wait(cluster, nodes)
        cluster.apply(METRICS)
        yield cluster


@contextmanager
def _running(directory: Path, programs: Path, nodes: int) -> Iterator[Cluster]:
    """A cluster that has been started, with a link to it and a registry."""
    inside = [sys.executable, "-m", "nodes.inside", str(directory), str(programs), str(nodes)]
    own = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with (directory / "logs" / "inside.log").open("wb") as log:
        # In a session of its own, so that Ctrl-C does not end it half-way. It ends when its input ends.
        process = subprocess.Popen(
            [*own, *inside],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
            cwd=Path(__file__).parents[1],
            # The only registry that nodes have is at hand.
            env={name: value for name, value in os.environ.items() if name not in PROXIES},
        )
    assert process.stdin
    assert process.stdout
    try:
        if process.stdout.readline() != "hub\n":
            raise ClusterError(f"the cluster did not start: {(directory / 'logs' / 'inside.log').read_text()}")
        _link(process.pid)
        registry = module(TESTS / "registry.py")
        with registry.Registry().running(OUTSIDE) as images:
            place = directory / "registries" / images.host
            place.mkdir(parents=True)
            port = images.host.rpartition(":")[2]
            # containerd 1.6 ignores a file that names no host.
            (place / "hosts.toml").write_text(f'[host."http://{OUTSIDE}:{port}"]\ncapabilities = ["pull", "resolve"]\n')
            yield Cluster(directory, images.host, process)
    finally:
        process.stdin.close()
        process.wait()


def _link(unshare: int) -> None:
    """A link between this machine and the cluster, which goes with the cluster."""
    children = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()
    inside = ("nsenter", f"--target={children[0]}", "--net")
    for command in (
        ("ip", "link", "add", LINK, "type", "veth", "peer", "name", "outside", "netns", children[0]),
        (*inside, "ip", "link", "set", "outside", "master", "nodes", "up"),
        ("ip", "address", "add", f"{OUTSIDE}/{NETWORK.rpartition('/')[2]}", "dev", LINK),
        ("ip", "link", "set", LINK, "up"),
        # Services by the rules of one node, pods by the nodes that have them.
        ("ip", "route", "add", SERVICES, "via", Node(1, PLACE).address),
        ("ip", "route", "add", PODS, "via", HUB),
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ClusterError(f"{' '.join(command)}: {done.stderr.strip()}")


def _write_files(directory: Path, programs: Path, nodes: int) -> None:
    for name in ("logs", "registries", "metrics"):
        (directory / name).mkdir(parents=True)
    (directory / "kubeconfig").write_text(KUBECONFIG)
    (directory / "pause.tar").write_bytes(_image(PAUSE, (programs / "pause").read_bytes()))
    for node in [Node(number, directory) for number in range(1, nodes + 1)]:
        for place in _cgroups(node.cgroup.lstrip("/")):
            place.mkdir(parents=True)
            _give_cpus(place)


def _cgroups(name: str) -> list[Path]:
    """Where a control group is, or would be, in each hierarchy of this machine."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS / name]
    return [place / name for place in CGROUPS.iterdir() if place.is_dir()]


def _give_cpus(place: Path) -> None:
    """A new group has none in the first version of control groups, and what has none can run nothing."""
    for group in (place.parent, place):
        for name in ("cpuset.cpus", "cpuset.mems"):
            given = group / name
            if given.exists() and not given.read_text().strip():
                given.write_text((group.parent / name).read_text())
    # Otherwise all pods together get as much as one other process of this machine.
    for name, share in (("cpu.shares", "10240"), ("cpu.weight", "1000")):
        if (place.parent / name).exists():
            (place.parent / name).write_text(share)


def _image(name: str, program: bytes) -> bytes:
    """An archive with an image of one program, as `docker save` makes it."""
    layer = _tar({"pause": program})
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": ["/pause"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    return _tar({"layer.tar": layer, "config.json": config, "manifest.json": json.dumps(manifest).encode()})


def _tar(files: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


def _wait(cluster: Cluster, nodes: int) -> None:
    end = time.monotonic() + READY_SECONDS
    while cluster.ready_nodes() < nodes:
        if cluster.process.poll() is not None or time.monotonic() > end:
            logs = sorted((cluster.directory / "logs").glob("*.log"))
            said = "\n".join(f"{path.name}: {cluster.log(path.stem)[-500:]}" for path in logs)
            raise ClusterError(f"the nodes were not ready within {READY_SECONDS} s:\n{said}")
        time.sleep(0.5)


def _remove(directory: Path) -> None:
    """Remove the files and control groups of a cluster that is gone."""
    for place in _cgroups(directory.name):
        for group in sorted(place.rglob("*/"), reverse=True) if place.exists() else []:
            with suppress(OSError):
                group.rmdir()
        with suppress(OSError):
            place.rmdir()
    shutil.rmtree(directory, ignore_errors=True)


def main() -> None:
    """Bring a cluster up, say how to use it, and end it with Ctrl-C."""
    nodes = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    began = time.monotonic()
    try:
        with open_cluster(nodes) as cluster:
            print(f"{nodes} nodes are ready after {time.monotonic() - began:.0f} s:\n")
            print(f"  export KUBECONFIG={cluster.kubeconfig}")
            print(f"  docker push {cluster.registry}/NAME    # nodes pull it by the same name\n")
            print(f"The API server is https://{HUB}:{API_PORT}, the logs are in {cluster.directory}/logs.")
            print("Ctrl-C ends the cluster; nothing of it stays.", flush=True)
            with suppress(KeyboardInterrupt):
                cluster.process.wait()
    except KeyboardInterrupt:
        pass
    except IMPOSSIBLE as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
