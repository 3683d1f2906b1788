"""The service in the cluster, through kubectl: what runs, whether a rollout succeeds, and if not, why."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mlplatform.delivery import programs
from mlplatform.delivery.console import Console
from mlplatform.delivery.errors import DeliveryError

VERSION_LABEL = "tags.datadoghq.com/version"
REVISION = "deployment.kubernetes.io/revision"
# As deploy/k8s/base/deployment.yaml names it.
CONTAINER = "serving"
LOG_LINES = 15
EVENTS = 5
# A rollout is given up when so many requests to the cluster fail in a row.
UNANSWERED = 4
# States of a waiting container, and the seconds after which the rollout is given up. A pull may fail once.
HOPELESS: Mapping[str, float] = {
    "CrashLoopBackOff": 0,
    "CreateContainerConfigError": 0,
    "InvalidImageName": 0,
    "ErrImageNeverPull": 0,
    "ImagePullBackOff": 60,
}


@dataclass(frozen=True)
class Running:
    """A Deployment as the cluster has it. replica_set: the one of its pod template; both numbers are pods."""

    name: str
    image: str
    version: str
    replica_set: str
    ready: int
    wanted: int
    settled: bool


@dataclass(frozen=True)
class Seen:
    """A snapshot of what the cluster has of an environment."""

    deployment: Mapping[str, Any] | None
    replica_sets: Sequence[Mapping[str, Any]]
    pods: Sequence[Mapping[str, Any]]

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
    def new_pods(self) -> list[Mapping[str, Any]]:
        """The pods of the newest template."""
        owner = self.replica_set
        return [
            pod
            for pod in self.pods
            if owner and any(reference["name"] == owner for reference in pod["metadata"].get("ownerReferences", []))
        ]


class Rollout(DeliveryError):  # noqa: N818
    """A rollout that failed; the message says why."""


class Cluster:
    """The namespace that the settings name. Every call raises DeliveryError."""

    def __init__(self, namespace: str, service: str) -> None:
        self.namespace = namespace
        self.service = service

    def name(self, environment: str) -> str:
        """The name of an environment's Deployment and Service, and the label of its pods."""
        return self.service if environment == "production" else f"{self.service}-{environment}"

    def kubectl(self, *arguments: str, stdin: str | None = None, seconds: float = 60) -> str:
        """The output of kubectl. Raises ProgramError."""
        options = (f"--namespace={self.namespace}", "--request-timeout=30s")
        return programs.output("kubectl", *arguments, *options, stdin=stdin, seconds=seconds)

    def get(self, *arguments: str) -> Any:
        """The JSON of `kubectl get`, or None if there is nothing of that name."""
        text = self.kubectl("get", *arguments, "--output=json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def running(self, environment: str) -> Running | None:
        """What runs in an environment, or None."""
        seen = self.look(environment)
        deployment = seen.deployment
        if deployment is None:
            return None
        status, template = deployment.get("status", {}), deployment["spec"]["template"]
        return Running(
            name=self.name(environment),
            image=_image(deployment, CONTAINER),
            version=template["metadata"].get("labels", {}).get(VERSION_LABEL, ""),
            replica_set=seen.replica_set,
            ready=int(status.get("readyReplicas", 0)),
            wanted=int(deployment["spec"].get("replicas", 1)),
            settled=_settled(deployment),
        )

    def image(self, environment: str, container: str) -> str:
        """The image of a container of an environment's pods; empty if there is none."""
        deployment = self.look(environment).deployment
        return _image(deployment, container) if deployment else ""

    def look(self, environment: str) -> Seen:
        """The Deployment of an environment, its ReplicaSets, each a pod template to go back to, and its pods."""
        name = self.name(environment)
        objects = self._listed("deployments,replicasets,pods", f"--selector=app.kubernetes.io/instance={name}")
        by_kind = {
            kind: [item for item in objects if item["kind"] == kind] for kind in ("Deployment", "ReplicaSet", "Pod")
        }
        deployments = [deployment for deployment in by_kind["Deployment"] if deployment["metadata"]["name"] == name]
        return Seen(deployments[0] if deployments else None, by_kind["ReplicaSet"], by_kind["Pod"])

    def wait(
        self,
        environment: str,
        seconds: float,
        poll: float,
        console: Console,
    ) -> None:
        """Wait until every pod is of the newest template and available, and say how far it is.

        Raises Rollout if that takes too long, if the cluster gives up, or if a pod is seen to get nowhere; ProgramError
        if the cluster does not answer.
        """
        name, shown, hopeless, unanswered = self.name(environment), "", dict[str, float](), 0
        end = time.monotonic() + seconds
        while True:
            try:
                seen, unanswered = self.look(environment), 0
            except programs.ProgramError:
                # The rollout continues while an API server does not answer for a moment.
                unanswered += 1
                if unanswered == UNANSWERED:
                    raise
                time.sleep(poll)
                continue
            deployment = seen.deployment
            if deployment is None:
                raise Rollout(f"the Deployment {name} is gone: somebody deleted it")
            if _settled(deployment):
                return
            progress = _progress(deployment)
            if progress != shown:
                shown = progress
                console.say(f"deploy: {progress}")
            for condition in deployment.get("status", {}).get("conditions", []):
                if condition.get("reason") == "ProgressDeadlineExceeded" and _observed(deployment):
                    raise Rollout(f"the rollout made no progress for too long: {condition.get('message', '')}")
            for pod, reason in _waiting(seen):
                since = hopeless.setdefault(f"{pod} {reason}", time.monotonic())
                if time.monotonic() - since >= HOPELESS[reason]:
                    raise Rollout(f"pod {pod} does not start: {reason}")
            if time.monotonic() > end:
                raise Rollout(f"it was not ready within {seconds:g} s (rollout_seconds of [delivery])")
            time.sleep(poll)

    def diagnosis(self, environment: str) -> str:
        """What is wrong with the pods of the newest template that are not ready: states, events, last log lines."""
        lines: list[str] = []
        seen = self.look(environment)
        if not seen.new_pods:
            return _podless(seen.deployment)
        for pod in seen.new_pods:
            states = [*pod.get("status", {}).get("containerStatuses", [])]
            if states and all(state.get("ready") for state in states):
                continue
            name = pod["metadata"]["name"]
            lines += [f"pod {name}: {pod.get('status', {}).get('phase', 'Unknown')}"]
            lines += [f"  {said}" for state in states for said in _states(state)]
            lines += [f"  {condition}" for condition in _unscheduled(pod)]
            lines += _event_lines(self._listed("events", f"--field-selector=involvedObject.name={name}"))
            lines += self._log(name, any(state.get("restartCount") for state in states))
        return "\n".join(lines)

    def undo(self, environment: str, replica_set: str) -> None:
        """Bring back the pod template of a ReplicaSet that is still there."""
        name = self.name(environment)
        sets = {replica["metadata"]["name"]: replica for replica in self.look(environment).replica_sets}
        target = sets[replica_set]
        self.kubectl("rollout", "undo", f"deployment/{name}", f"--to-revision={_revision(target)}")
        # Undoing a rollout changes the pod template alone.
        version = target["spec"]["template"]["metadata"].get("labels", {}).get(VERSION_LABEL)
        if version:
            self.kubectl("label", "--overwrite", f"deployment/{name}", f"{VERSION_LABEL}={version}")

    @contextmanager
    def forwarded(self, environment: str) -> Iterator[str]:
        """Base URL of an environment's Service, through `kubectl port-forward`."""
        with programs.port_forward(self.namespace, f"service/{self.name(environment)}", "http") as port:
            yield f"http://127.0.0.1:{port}"

    def _listed(self, *arguments: str) -> list[dict[str, Any]]:
        # kubectl prints nothing, rather than an empty list, where there is nothing.
        return list((self.get(*arguments) or {"items": []})["items"])

    def _log(self, pod: str, restarted: bool) -> list[str]:
        previous = ("--previous",) if restarted else ()
        try:
            said = self.kubectl("logs", pod, f"--container={CONTAINER}", f"--tail={LOG_LINES}", *previous)
        except programs.ProgramError:
            # A container that was never started has none.
            return []
        return [f"  log: {line}" for line in said.splitlines()]


def _image(deployment: Mapping[str, Any], container: str) -> str:
    spec = deployment["spec"]["template"]["spec"]
    return next(
        (
            str(entry["image"])
            for entry in [*spec["containers"], *spec.get("initContainers", [])]
            if entry["name"] == container
        ),
        "",
    )


def _waiting(seen: Seen) -> list[tuple[str, str]]:
    """Pods of the newest template in a state that may never end, with that state."""
    if seen.deployment is None or not _observed(seen.deployment):
        return []
    return [
        (pod["metadata"]["name"], reason)
        for pod in seen.new_pods
        for state in pod.get("status", {}).get("containerStatuses", [])
        if (reason := state.get("state", {}).get("waiting", {}).get("reason")) in HOPELESS
        # One crash may be the node's fault.
        and (reason != "CrashLoopBackOff" or state.get("restartCount", 0) > 1)
    ]


def _revision(workload: Mapping[str, Any]) -> str:
    return str(workload["metadata"].get("annotations", {}).get(REVISION, ""))


def _observed(deployment: Mapping[str, Any]) -> bool:
    """Whether the status is of the newest specification."""
    seen = deployment.get("status", {}).get("observedGeneration", 0)
    return bool(seen >= deployment["metadata"].get("generation", 0))


def _settled(deployment: Mapping[str, Any]) -> bool:
    """As `kubectl rollout status` has it: all pods are of the newest template, and available."""
    status, wanted = deployment.get("status", {}), int(deployment["spec"].get("replicas", 1))
    updated = int(status.get("updatedReplicas", 0))
    return (
        _observed(deployment)
        and updated >= wanted
        and int(status.get("replicas", 0)) <= updated
        and int(status.get("availableReplicas", 0)) >= updated
    )


def _progress(deployment: Mapping[str, Any]) -> str:
    status, wanted = deployment.get("status", {}), int(deployment["spec"].get("replicas", 1))
    updated = int(status.get("updatedReplicas", 0)) if _observed(deployment) else 0
    old = max(int(status.get("replicas", 0)) - updated, 0)
    available = int(status.get("availableReplicas", 0))
    return f"{updated} of {wanted} new pods, {available} available" + (f", {old} old ones left" if old else "")


def _states(state: Mapping[str, Any]) -> list[str]:
    """Why a container does not run, from its status."""
    reasons = []
    waiting = state.get("state", {}).get("waiting")
    if waiting:
        reasons.append(f"{state['name']} waits: {waiting.get('reason')} {waiting.get('message', '')}".rstrip())
    for ended in (state.get("state", {}).get("terminated"), state.get("lastState", {}).get("terminated")):
        if ended:
            why = ended.get("reason", "")
            killed = ": it took more memory than its limit" if why == "OOMKilled" else ""
            reasons.append(f"{state['name']} ended with exit code {ended.get('exitCode')} ({why}){killed}")
    if not reasons and not state.get("ready"):
        reasons.append(f"{state['name']} runs and is not ready")
    return reasons


def _event_lines(events: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line per event, the newest EVENTS of them, without repetitions."""

    def at(event: Mapping[str, Any]) -> str:
        metadata = event.get("metadata", {})
        # Which of these is set depends on the event's author.
        return str(event.get("lastTimestamp") or event.get("eventTime") or metadata.get("creationTimestamp") or "")

    said = [f"  event {event.get('reason')}: {event.get('message')}" for event in sorted(events, key=at)]
    return list(dict.fromkeys(said))[-EVENTS:]


def _podless(deployment: Mapping[str, Any] | None) -> str:
    """Why a Deployment has no pods of its newest template, such as a quota, a webhook or a missing controller."""
    if deployment is None:
        return ""
    if not _observed(deployment):
        return "no pod was made: the cluster's controllers have not looked at the Deployment"
    failures = [
        condition.get("message", "")
        for condition in deployment.get("status", {}).get("conditions", [])
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True"
    ]
    return "\n".join(f"no pod was made: {failure}" for failure in failures) or "no pod was made yet"


def _unscheduled(pod: Mapping[str, Any]) -> list[str]:
    return [
        f"not scheduled: {condition.get('message', '')}"
        for condition in pod.get("status", {}).get("conditions", [])
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False"
    ]
