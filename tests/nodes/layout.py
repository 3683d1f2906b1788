"""Where things are in a cluster of this machine: addresses, and files of its directory."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Neither Docker's, nor those of the tests' engine, nor those of the control plane without nodes.
NETWORK, PODS, SERVICES = "10.215.0.0/24", "10.216.0.0/16", "10.217.0.0/24"
# The control plane's machine, and this one, as the nodes see it.
HUB, OUTSIDE = "10.215.0.1", "10.215.0.254"
API_PORT, METRICS_PORT = 6443, 4443
ADMIN = "admin-token"
PAUSE = "localhost/pause:1"
KUBECONFIG = f"""apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: "https://{HUB}:{API_PORT}", insecure-skip-tls-verify: true}}}}]
users: [{{name: u, user: {{token: {ADMIN}}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
current-context: c
"""


@dataclass(frozen=True)
class Node:
    """A node: its number begins with 1. cluster: the cluster's directory."""

    number: int
    cluster: Path

    @property
    def name(self) -> str:
        return f"node-{self.number}"

    @property
    def address(self) -> str:
        return f"10.215.0.{10 + self.number}"

    @property
    def pods(self) -> str:
        """Addresses of its pods."""
        return f"10.216.{self.number}.0/24"

    @property
    def directory(self) -> Path:
        return self.cluster / self.name

    @property
    def cgroup(self) -> str:
        """Of all its pods, in every hierarchy."""
        return f"/{self.cluster.name}/{self.name}"


def write_files(node: Node) -> None:
    """Write what the programs of a node are told, and make the directories that it has of its own."""
    for name in ("lib/kubelet", "lib/containerd", "lib/cni", "log/pods", "cni"):
        (node.directory / name).mkdir(parents=True)
    (node.directory / "resolv.conf").write_text("")
    (node.directory / "containerd.toml").write_text(_containerd(node))
    # Routed, without a bridge: each packet of a pod passes the node's rules.
    ranges = {"type": "host-local", "ranges": [[{"subnet": node.pods}]], "routes": [{"dst": "0.0.0.0/0"}]}
    cni = {"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "ptp", "ipMasq": False, "ipam": ranges}]}
    (node.directory / "cni" / "10-pods.conflist").write_text(json.dumps(cni))
    for name, content in (("kubelet", _kubelet(node)), ("proxy", _proxy(node))):
        (node.directory / f"{name}.json").write_text(json.dumps(content))


def _containerd(node: Node) -> str:
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[{cri}]
sandbox_image = "{PAUSE}"
# Without CAP_SYS_RESOURCE nobody may lower it.
restrict_oom_score_adj = true
disable_apparmor = true
[{cri}.cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{node.directory}/cni"
[{cri}.registry]
config_path = "{node.cluster}/registries"
[{cri}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""


def _kubelet(node: Node) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        # Only this machine reaches a node.
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": node.cgroup,
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "resolvConf": str(node.directory / "resolv.conf"),
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "registryPullQPS": 0,
    }


def _proxy(node: Node) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": PODS,
        "hostnameOverride": node.name,
        "bindAddress": node.address,
        "oomScoreAdj": 0,
        "clientConnection": {"kubeconfig": str(node.cluster / "kubeconfig")},
        # Of the whole machine.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }
