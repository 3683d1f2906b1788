"""The objects of an environment before a release, and how they are brought back to that.

Only what a release can change is compared and brought back: labels, annotations, and all of an object but its status.
The autoscaler's number of pods is left alone, and the content of Secrets is never read.
"""

import copy
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlplatform.delivery import programs
from mlplatform.delivery.cluster import VERSION_LABEL, Cluster, items
from mlplatform.delivery.pods import REVISION, Object

# What belongs to the cluster and not to whoever applies an object.
CLUSTERS_OWN = ("apiVersion", "kind", "metadata", "status")


@dataclass(frozen=True)
class Snapshot:
    """What a release is about to touch: `planned` names its objects, `before` are those of them that were there."""

    planned: Sequence[Object]
    before: Sequence[Object]


def read(manifests: str) -> list[Object]:
    """The objects in manifests, as YAML. Raises DeliveryError."""
    # A patch of nothing, for kubectl's parser, which knows YAML; --local asks no cluster.
    options = ("--local", "--type=merge", "--patch={}", "--filename=-", "--output=json")
    said = programs.output("kubectl", "patch", *options, stdin=manifests).strip()
    objects: list[Object] = []
    while said:
        parsed, end = json.JSONDecoder().raw_decode(said)
        objects.append(parsed)
        said = said[end:].lstrip()
    return objects


def snapshot(cluster: Cluster, planned: Sequence[Object]) -> Snapshot:
    """The objects in the cluster of these names. Raises DeliveryError."""
    named = [_name(item) for item in planned]
    return Snapshot(named, [_kept(item) for item in _get(cluster, named)])


def restore(cluster: Cluster, taken: Snapshot) -> list[str]:
    """Bring all objects back; says what was done, by object. Raises DeliveryError.

    What is as before already is left alone, so an interrupted call may be repeated.
    """
    now = {_key(item): _kept(item) for item in _get(cluster, taken.planned)}
    done = []
    # The pods first: they are what answers.
    for before in sorted(taken.before, key=lambda item: item["kind"] != "Deployment"):
        name = f"{before['kind'].lower()}/{before['metadata']['name']}"
        if _key(before) not in now:
            cluster.kubectl("apply", "--filename=-", stdin=json.dumps(before))
            done.append(f"{name} made again")
        elif before["kind"] != "Secret" and (difference := merge_patch(now[_key(before)], before)):
            change(cluster, before, difference)
            done.append(f"{name} as before")
    kept = {_key(item) for item in taken.before}
    new = [_name(item) for key, item in now.items() if key not in kept]
    if new:
        cluster.kubectl("delete", "--filename=-", "--ignore-not-found", "--wait=false", stdin=_listed(new))
        done += [f"{item['kind'].lower()}/{item['metadata']['name']} removed" for item in new]
    return done


def change(cluster: Cluster, item: Object, patch: Mapping[str, Any]) -> None:
    """Change an object by a JSON merge patch (RFC 7386). Raises DeliveryError."""
    cluster.kubectl(
        "patch", "--filename=-", "--type=merge", f"--patch={json.dumps(patch)}", stdin=json.dumps(_name(item))
    )


def with_template(deployment: Object, replica_set: Object) -> dict[str, Any]:
    """A Deployment as it is with the pod template of one of its ReplicaSets, and the version label of that."""
    target: dict[str, Any] = copy.deepcopy(_kept(deployment))
    template = copy.deepcopy(replica_set["spec"]["template"])
    # The Deployment's controller adds it; with it the template would be a new one.
    template["metadata"].get("labels", {}).pop("pod-template-hash", None)
    target["spec"]["template"] = template
    version = template["metadata"].get("labels", {}).get(VERSION_LABEL)
    if version:
        target["metadata"].setdefault("labels", {})[VERSION_LABEL] = version
    return target


def roll_to(cluster: Cluster, deployment: Object, replica_set: Object) -> None:
    """Give a Deployment the pod template of one of its ReplicaSets. Raises DeliveryError."""
    patch = merge_patch(_kept(deployment), with_template(deployment, replica_set))
    if patch:
        change(cluster, deployment, patch)


def merge_patch(now: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) that makes `wanted` of `now`; empty if they are the same."""
    patch: dict[str, Any] = dict.fromkeys(now.keys() - wanted.keys())
    for key, value in wanted.items():
        if key not in now:
            patch[key] = value
        elif isinstance(value, Mapping) and isinstance(now[key], Mapping):
            if inner := merge_patch(now[key], value):
                patch[key] = inner
        elif now[key] != value:
            patch[key] = value
    return patch


def await_deadline(cluster: Cluster, seconds: float) -> None:
    """From now on every call to the cluster has ended in so many seconds, and none is repeated."""
    cluster.patience, cluster.deadline = 0, time.monotonic() + seconds


def _get(cluster: Cluster, named: Sequence[Object]) -> list[Object]:
    return items(cluster.get("--filename=-", stdin=_listed(named))) if named else []


def _listed(objects: Sequence[Object]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})


def _key(item: Object) -> tuple[str, str]:
    return f"{item['apiVersion']} {item['kind']}", item["metadata"]["name"]


def _name(item: Object) -> dict[str, Any]:
    """What finds an object, and nothing of its content."""
    metadata = {key: value for key, value in item["metadata"].items() if key in ("name", "namespace")}
    return {"apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": metadata}


def _kept(item: Object) -> dict[str, Any]:
    """What of an object is compared and brought back."""
    kept = _name(item)
    if item["kind"] == "Secret":
        return kept
    metadata = item["metadata"]
    kept["metadata"]["labels"] = metadata.get("labels", {})
    # The controller counts the revisions.
    annotations = {key: value for key, value in metadata.get("annotations", {}).items() if key != REVISION}
    kept["metadata"]["annotations"] = annotations
    kept |= {key: value for key, value in item.items() if key not in CLUSTERS_OWN}
    if item["kind"] == "Deployment":
        kept["spec"] = {key: value for key, value in item["spec"].items() if key != "replicas"}
    return kept
