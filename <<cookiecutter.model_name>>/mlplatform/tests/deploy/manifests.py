"""What kustomize makes of deploy/k8s, and the questions that tests ask of it."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from kubernetes_validate.utils import all_versions

ROOT = Path(__file__).resolve().parents[3]
K8S = ROOT / "deploy" / "k8s"
OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir())
COMPONENTS = sorted(path.name for path in (K8S / "components").iterdir())

# Kubernetes itself supports its three newest minor versions.
# The package may list a version twice.
VERSIONS = list(dict.fromkeys(all_versions()))[-3:]

Manifest = dict[str, Any]


def kubectl() -> str:
    """The kubectl of this environment, from requirements/dev.txt."""
    return str(Path(sys.executable).with_name("kubectl"))


def build(directory: Path) -> list[Manifest]:
    """The objects of a kustomization; RuntimeError with kubectl's words if it cannot be built."""
    built = subprocess.run([kubectl(), "kustomize", str(directory)], capture_output=True, text=True)
    if built.returncode:
        raise RuntimeError(built.stderr)
    return list(yaml.safe_load_all(built.stdout))


def build_with(overlay: str, component: str, directory: Path) -> list[Manifest]:
    """The objects of an overlay that takes a component; its copy is made in `directory`."""
    shutil.copytree(K8S, directory / "k8s")
    file = directory / "k8s" / "overlays" / overlay / "kustomization.yaml"
    kustomization = yaml.safe_load(file.read_text(encoding="utf-8"))
    kustomization["components"] = [f"../../components/{component}"]
    file.write_text(yaml.safe_dump(kustomization), encoding="utf-8")
    return build(file.parent)


def check_schema(manifest: Manifest, version: str) -> None:
    """Raise kubernetes_validate.ValidationError if a version of Kubernetes does not know the object as it is."""
    kubernetes_validate.validate(manifest, version, strict=True)


def one(manifests: list[Manifest], kind: str) -> Manifest:
    """The only object of a kind."""
    (found,) = [manifest for manifest in manifests if manifest["kind"] == kind]
    return found


def pod(manifests: list[Manifest]) -> Manifest:
    """The pod template of the Deployment: its metadata and spec."""
    template: Manifest = one(manifests, "Deployment")["spec"]["template"]
    return template


def container(manifests: list[Manifest]) -> Manifest:
    """The only container of a pod."""
    (found,) = pod(manifests)["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector, of matchLabels and matchExpressions with the operator In, selects these labels."""
    expressions = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in expressions)
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )


def selectors(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Every selector by which an object finds its pods, with the object's kind."""
    for manifest in manifests:
        kind, spec = manifest["kind"], manifest.get("spec", {})
        if kind == "Service":
            yield kind, {"matchLabels": spec["selector"]}
        elif kind in ("Deployment", "PodDisruptionBudget"):
            yield kind, spec["selector"]
        elif kind == "NetworkPolicy":
            yield kind, spec["podSelector"]
    for constraint in pod(manifests)["spec"]["topologySpreadConstraints"]:
        yield "topologySpreadConstraint", constraint["labelSelector"]


def reaches(policies: list[Manifest], direction: str, port: int, labels: Mapping[str, str]) -> bool:
    """Whether NetworkPolicies let pods with these labels, of the same namespace, through to a TCP port.

    direction: "ingress" or "egress".
    """
    peers = {"ingress": "from", "egress": "to"}[direction]
    for policy in policies:
        for rule in policy["spec"].get(direction, []):
            ports = [each["port"] for each in rule["ports"] if each.get("protocol", "TCP") == "TCP"]
            if port in ports and (
                peers not in rule or any(selects(peer["podSelector"], labels) for peer in rule[peers])
            ):
                return True
    return False


def breaches(spec: Manifest) -> list[str]:
    """What in the spec of a pod is outside of Pod Security's profile `restricted`, for pods of Linux.

    Source: kubernetes.io/docs/concepts/security/pod-security-standards. Windows and what is deprecated are left out.
    """
    found = [field for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    found += [f"volume {volume['name']}" for volume in spec.get("volumes", []) if not set(volume) <= {"name", *allowed}]
    for each in [*spec.get("initContainers", []), *spec["containers"]]:
        context = {**spec.get("securityContext", {}), **each.get("securityContext", {})}
        found += [f"hostPort of {each['name']}" for port in each.get("ports", []) if port.get("hostPort")]
        expected = {
            "runAsNonRoot": context.get("runAsNonRoot") is True,
            "runAsUser": context.get("runAsUser") != 0,
            "privileged": not context.get("privileged"),
            "allowPrivilegeEscalation": context.get("allowPrivilegeEscalation") is False,
            "capabilities.drop": "ALL" in context.get("capabilities", {}).get("drop", []),
            "capabilities.add": set(context.get("capabilities", {}).get("add", [])) <= {"NET_BIND_SERVICE"},
            "seccompProfile": context.get("seccompProfile", {}).get("type") in ("RuntimeDefault", "Localhost"),
            "procMount": context.get("procMount", "Default") == "Default",
        }
        found += [f"{field} of {each['name']}" for field, kept in expected.items() if not kept]
    return found
