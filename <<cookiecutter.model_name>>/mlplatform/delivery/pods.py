"""What the cluster's status of a Deployment and its pods means: how far a rollout is, what holds it up, and why."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

REVISION = "deployment.kubernetes.io/revision"
EVENTS = 5
# States of a waiting container, and the seconds after which the rollout is given up. A pull may fail once, and a node
# may not have got a new ConfigMap yet, as after the API server was away.
HOPELESS: Mapping[str, float] = {
    "CrashLoopBackOff": 0,
    "CreateContainerConfigError": 60,
    "InvalidImageName": 0,
    "ErrImageNeverPull": 0,
    "ImagePullBackOff": 60,
}

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Seen:
    """A snapshot of what the cluster has of an environment."""

    deployment: Object | None
    replica_sets: Sequence[Object]
    pods: Sequence[Object]

    @property
    def replica_set(self) -> str:
        """Name of the ReplicaSet of the newest pod template; empty if there is none yet."""
        revision = _revision(self.deployment) if self.deployment else ""
        return next(
            (
                str(replica_set["metadata"]["name"])
                for replica_set in self.replica_sets
                if _revision(replica_set) == revision
            ),
            "",
        )

    @property
    def new_pods(self) -> list[Object]:
        """The pods of the newest template."""
        owner = self.replica_set
        return [
            pod
            for pod in self.pods
            if owner and any(reference["name"] == owner for reference in pod["metadata"].get("ownerReferences", []))
        ]


def image(deployment: Object, container: str) -> str:
    """The image of a container or sidecar of a Deployment's pods; empty if there is none."""
    spec = deployment["spec"]["template"]["spec"]
    return next(
        (
            str(entry["image"])
            for entry in [*spec["containers"], *spec.get("initContainers", [])]
            if entry["name"] == container
        ),
        "",
    )


def observed(deployment: Object) -> bool:
    """Whether the status is of the newest specification."""
    seen = deployment.get("status", {}).get("observedGeneration", 0)
    return bool(seen >= deployment["metadata"].get("generation", 0))


def settled(deployment: Object) -> bool:
    """As `kubectl rollout status` has it: all pods are of the newest template, and available."""
    status, wanted = deployment.get("status", {}), int(deployment["spec"].get("replicas", 1))
    updated = int(status.get("updatedReplicas", 0))
    return (
        observed(deployment)
        and updated >= wanted
        and int(status.get("replicas", 0)) <= updated
        and int(status.get("availableReplicas", 0)) >= updated
    )


def progress(deployment: Object) -> str:
    """How far a rollout is, for a person."""
    status, wanted = deployment.get("status", {}), int(deployment["spec"].get("replicas", 1))
    updated = int(status.get("updatedReplicas", 0)) if observed(deployment) else 0
    old = max(int(status.get("replicas", 0)) - updated, 0)
    available = int(status.get("availableReplicas", 0))
    return f"{updated} of {wanted} new pods, {available} available" + (f", {old} old ones left" if old else "")


def held_up(seen: Seen) -> Iterator[tuple[str, str, str]]:
    """Pods of the newest template with a container in a state that may never end: pod, container, state."""
    if seen.deployment is None or not observed(seen.deployment):
        return
    for pod in seen.new_pods:
        for state in containers(pod):
            reason = state.get("state", {}).get("waiting", {}).get("reason")
            # One crash may be the node's fault.
            once = reason == "CrashLoopBackOff" and state.get("restartCount", 0) <= 1
            if reason in HOPELESS and not once:
                yield pod["metadata"]["name"], state["name"], reason


def containers(pod: Object) -> list[Object]:
    """The states of a pod's containers: init containers and sidecars first, in the order in which they start."""
    status = pod.get("status", {})
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def broken(pod: Object) -> list[Object]:
    """The states of those containers of a pod that neither run as they should nor have done their work."""
    return [state for state in containers(pod) if not state.get("ready") and not _done(state)]


def reasons(state: Object) -> list[str]:
    """Why a container does not run, from its state."""
    told = []
    waiting = state.get("state", {}).get("waiting")
    if waiting:
        told.append(f"{state['name']} waits: {waiting.get('reason')} {waiting.get('message', '')}".rstrip())
    for ended in (state.get("state", {}).get("terminated"), state.get("lastState", {}).get("terminated")):
        if ended:
            why = ended.get("reason", "")
            killed = ": it took more memory than its limit" if why == "OOMKilled" else ""
            told.append(f"{state['name']} ended with exit code {ended.get('exitCode')} ({why}){killed}")
    if not told:
        told.append(f"{state['name']} runs and is not ready")
    return told


def event_lines(events: Sequence[Object]) -> list[str]:
    """A line per event, the newest EVENTS of them, without repetitions."""

    def at(event: Object) -> str:
        metadata = event.get("metadata", {})
        # Which of these is set depends on the event's author.
        return str(event.get("lastTimestamp") or event.get("eventTime") or metadata.get("creationTimestamp") or "")

    said = [f"  event {event.get('reason')}: {event.get('message')}" for event in sorted(events, key=at)]
    return list(dict.fromkeys(said))[-EVENTS:]


def podless(deployment: Object | None) -> str:
    """Why a Deployment has no pods of its newest template, such as a quota, a webhook or a missing controller."""
    if deployment is None:
        return ""
    if not observed(deployment):
        return "no pod was made: the cluster's controllers have not looked at the Deployment"
    failures = [
        condition.get("message", "")
        for condition in deployment.get("status", {}).get("conditions", [])
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True"
    ]
    return "\n".join(f"no pod was made: {failure}" for failure in failures) or "no pod was made yet"


def unscheduled(pod: Object) -> list[str]:
    """Why a pod has no node."""
    return [
        f"not scheduled: {condition.get('message', '')}"
        for condition in pod.get("status", {}).get("conditions", [])
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False"
    ]


def _revision(workload: Object) -> str:
    return str(workload["metadata"].get("annotations", {}).get(REVISION, ""))


def _done(state: Object) -> bool:
    """Whether this is an init container that has ended well."""
    ended = state.get("state", {}).get("terminated")
    return bool(ended) and ended.get("exitCode") == 0
