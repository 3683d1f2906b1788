"""The first process of a cluster's own namespaces: starts every part of it, and starts those again that end.

`python -m nodes.inside DIRECTORY PROGRAMS NODES`, with processes, mounts and network interfaces of its own, so that
nothing is left of a cluster whose first process is gone. It ends with its input; a line `stop PART` or `start PART` of
it is done, and then answered.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from nodes.layout import ADMIN, API_PORT, HUB, METRICS_PORT, OUTSIDE, SERVICES, Node, write_files

BRIDGE = "nodes"
# What kubelet would otherwise set for the whole machine.
TUNED = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


class Parts:
    """Programs that run until they are stopped. directory: of their logs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.commands: dict[str, Sequence[str]] = {}
        self.running: dict[str, int] = {}
        self.lock = threading.Lock()

    def add(self, name: str, *command: str) -> None:
        """Start a part, which is started again when it ends."""
        self.commands[name] = command
        self.start(name)

    def start(self, name: str) -> None:
        """Start a part that does not run."""
        with self.lock, (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(self.commands[name], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            self.running[name] = process.pid

    def stop(self, name: str) -> None:
        """As if its machine had lost power."""
        with self.lock:
            number = self.running.pop(name)
            os.kill(number, signal.SIGKILL)

    def reap(self) -> None:
        """Take note of what has ended, for ever: also of the processes of containers, whose parents are gone."""
        while True:
            number, _ = os.waitpid(-1, 0)
            ended = [name for name, running in self.running.items() if running == number]
            if ended:
                threading.Timer(1, self.start, ended).start()


def main(directory: Path, programs: Path, nodes: int) -> None:
    """Until the input ends."""
    _mount(directory)
    _ip("link", "set", "lo", "up")
    _ip("link", "add", "name", BRIDGE, "type", "bridge")
    _ip("address", "add", f"{HUB}/24", "dev", BRIDGE)
    _ip("link", "set", BRIDGE, "up")
    _forward()
    # There is something now for the other end to be tied to.
    print("hub", flush=True)
    parts = Parts(directory / "logs")
    kube = str(programs / "kube")
    _start_control_plane(parts, programs, directory)
    for node in [Node(number, directory) for number in range(1, nodes + 1)]:
        _start_node(parts, kube, node, nodes)
    threading.Thread(target=_obey, args=(parts,)).start()
    parts.reap()


def _mount(directory: Path) -> None:
    """Mount what is to be different here; whoever comes later has it so."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    (directory / "tuned").mkdir()
    for name, value in TUNED.items():
        said = directory / "tuned" / name.replace("/", "-")
        said.write_text(value)
        subprocess.run(["mount", "--bind", str(said), f"/proc/sys/{name}"], check=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _forward() -> None:
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _start_control_plane(parts: Parts, programs: Path, directory: Path) -> None:
    kube, kubeconfig, key = str(programs / "kube"), directory / "kubeconfig", directory / "sa.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    (directory / "tokens.csv").write_text(f'{ADMIN},admin,admin,"system:masters"\nci-token,ci,ci,"ci"\n')
    etcd = "http://127.0.0.1:2379"
    parts.add(
        *("etcd", str(programs / "etcd"), f"--data-dir={directory}/etcd", f"--listen-client-urls={etcd}"),
        *(f"--advertise-client-urls={etcd}", "--listen-peer-urls=http://127.0.0.1:0", "--unsafe-no-fsync"),
    )
    parts.add(
        *("apiserver", kube, "apiserver", f"--etcd-servers={etcd}", f"--advertise-address={HUB}"),
        *(f"--secure-port={API_PORT}", f"--cert-dir={directory}", "--authorization-mode=RBAC"),
        *(f"--token-auth-file={directory}/tokens.csv", f"--service-cluster-ip-range={SERVICES}"),
        *(f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}"),
        *("--service-account-issuer=https://kubernetes.default.svc", "--endpoint-reconciler-type=none"),
        *("--kubelet-preferred-address-types=InternalIP", "--enable-aggregator-routing=true"),
    )
    common = (f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--secure-port=0")
    parts.add("controller-manager", kube, "controller-manager", f"--service-account-private-key-file={key}", *common)
    parts.add("scheduler", kube, "scheduler", *common)
    parts.add(
        *("metrics", kube, "metrics", f"--kubeconfig={kubeconfig}", f"--authentication-kubeconfig={kubeconfig}"),
        *(
            f"--authorization-kubeconfig={kubeconfig}",
            f"--secure-port={METRICS_PORT}",
            f"--cert-dir={directory}/metrics",
        ),
        # It asks for certificates that this API server does not have.
        "--authentication-tolerate-lookup-failure",
        *("--kubelet-insecure-tls", "--kubelet-preferred-address-types=InternalIP"),
        *("--metric-resolution=10s", "--kubelet-request-timeout=5s"),
    )


def _start_node(parts: Parts, kube: str, node: Node, nodes: int) -> None:
    write_files(node)
    within = _make_node(node, nodes)
    parts.add(f"{node.name}-containerd", *within, "containerd", "--config", str(node.directory / "containerd.toml"))
    ctr = [*within, "ctr", "--namespace=k8s.io", "images", "import", str(node.cluster / "pause.tar")]
    while subprocess.run(ctr, capture_output=True).returncode:
        time.sleep(0.2)
    kubeconfig = f"--kubeconfig={node.cluster}/kubeconfig"
    parts.add(
        *(f"{node.name}-kubelet", *within, kube, "kubelet", kubeconfig, f"--config={node.directory}/kubelet.json"),
        *(f"--hostname-override={node.name}", f"--node-ip={node.address}"),
    )
    parts.add(f"{node.name}-proxy", *within, kube, "proxy", f"--config={node.directory}/proxy.json")
    parts.add(
        *(f"{node.name}-policies", *within, kube, "policies", kubeconfig, f"--hostname-override={node.name}"),
        f"--service-cluster-ip-range={SERVICES}",
    )


def _make_node(node: Node, nodes: int) -> list[str]:
    """Make a machine of its own, as far as its programs can see; what a command is begun with to run there."""
    _ip("netns", "add", node.name)
    _ip("link", "add", node.name, "type", "veth", "peer", "name", "eth0", "netns", node.name)
    _ip("link", "set", node.name, "master", BRIDGE, "up")
    own = [
        f"hostname {node.name}",
        f"mount --bind {node.directory}/lib /var/lib",
        f"mount --bind {node.directory}/log /var/log",
        "mount -t tmpfs tmpfs /run",
        "ip link set lo up",
        f"ip address add {node.address}/24 dev eth0",
        "ip link set eth0 up",
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
        f"ip route add default via {OUTSIDE}",
    ]
    others = [Node(number, node.cluster) for number in range(1, nodes + 1) if number != node.number]
    own += [f"ip route add {other.pods} via {other.address}" for other in others]
    _ip("route", "add", node.pods, "via", node.address)
    script = " && ".join([*own, f"touch {node.directory}/made", "exec sleep infinity"])
    command = ["nsenter", f"--net=/run/netns/{node.name}", "unshare", "--mount", "--uts", "sh", "-c", script]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    while not (node.directory / "made").exists():
        if process.poll() is not None:
            sys.exit(f"{node.name} could not be made")
        time.sleep(0.05)
    return ["nsenter", f"--target={process.pid}", "--mount", "--uts", "--net"]


def _obey(parts: Parts) -> None:
    for line in sys.stdin:
        what, name = line.split()
        {"stop": parts.stop, "start": parts.start}[what](name)
        print(line.strip(), flush=True)
    # And with this process all others of its namespace.
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
