"""The service in the cluster, through kubectl: what runs, whether a rollout gets there, and if not, why."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from delivery import programs
from delivery.console import Console
from delivery.errors import DeliveryError

VERSION_LABEL = "tags.datadoghq.com/version"
REVISION = "deployment.kubernetes.io/revision"
# As deploy/k8s/base/deployment.yaml names it.
CONTAINER = "serving"
LOG_LINES = 15
# States of a container that waits, and after how many seconds of them a rollout is given up. A pull may fail once.
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


class Rollout(DeliveryError):  # noqa: N818
    """A rollout that did not get there; the message says why."""


class Cluster:
    """The namespace that the settings name. Every call raises DeliveryError."""

    def __init__(self, namespace: str, service: str) -> None:
        self.namespace = namespace
        self.service = service

    def name(self, environment: str) -> str:
        """The name of an environment's Deployment and Service, and the label of its pods."""
        return self.service if environment == "production" else f"{self.service}-{environment}"

    def kubectl(self, *arguments: str, stdin: str | None = None, seconds: float = 60) -> str:
        """What kubectl says. Raises ProgramError."""
        options = (f"--namespace={self.namespace}", "--request-timeout=30s")
        return programs.output("kubectl", *arguments, *options, stdin=stdin, seconds=seconds)

    def get(self, *arguments: str) -> Any:
        """What `kubectl get` finds, or None if there is nothing of that name."""
        found = self.kubectl("get", *arguments, "--output=json", "--ignore-not-found")
        return json.loads(found) if found.strip() else None

    def running(self, environment: str) -> Running | None:
        """What runs in an environment, or None."""
        name = self.name(environment)
        found = self.get("deployment", name)
        if found is None:
            return None
        revision = found["metadata"].get("annotations", {}).get(REVISION)
        sets = {_revision(each): each["metadata"]["name"] for each in self.replica_sets(environment)}
        status, template = found.get("status", {}), found["spec"]["template"]
        wanted = int(found["spec"].get("replicas", 1))
        containers = [each for each in template["spec"]["containers"] if each["name"] == CONTAINER]
        return Running(
            name=name,
            image=containers[0]["image"] if containers else "",
            version=template["metadata"].get("labels", {}).get(VERSION_LABEL, ""),
            replica_set=sets.get(revision, ""),
            ready=int(status.get("readyReplicas", 0)),
            wanted=wanted,
            settled=_settled(found),
        )

    def replica_sets(self, environment: str) -> list[dict[str, Any]]:
        """The ReplicaSets of an environment, each a pod template to go back to."""
        found: list[dict[str, Any]] = self.get("replicasets", f"--selector={self._selector(environment)}")["items"]
        return found

    def wait(
        self,
        environment: str,
        seconds: float,
        poll: float,
        console: Console,
    ) -> None:
        """Wait until every pod is of the newest template and available, and say how far it is.

        Raises Rollout if that takes too long, if the cluster gives up, or if a pod is seen to get nowhere.
        """
        name, shown, hopeless = self.name(environment), "", dict[str, float]()
        end = time.monotonic() + seconds
        while True:
            found = self.get("deployment", name)
            if found is None:
                raise Rollout(f"the Deployment {name} is gone: somebody deleted it")
            if _settled(found):
                return
            progress = _progress(found)
            if progress != shown:
                shown = progress
                console.say(f"deploy: {progress}")
            for condition in found.get("status", {}).get("conditions", []):
                if condition.get("reason") == "ProgressDeadlineExceeded" and _observed(found):
                    raise Rollout(f"the rollout made no progress for too long: {condition.get('message', '')}")
            for pod, reason in self._waiting(environment, found):
                since = hopeless.setdefault(f"{pod} {reason}", time.monotonic())
                if time.monotonic() - since >= HOPELESS[reason]:
                    raise Rollout(f"pod {pod} does not start: {reason}")
            if time.monotonic() > end:
                raise Rollout(f"it was not ready within {seconds:g} s (rollout_seconds of [delivery])")
            time.sleep(poll)

    def diagnosis(self, environment: str) -> str:
        """What is wrong with the pods of the newest template that are not ready: states, events, last log lines."""
        lines: list[str] = []
        for pod in self._new_pods(environment):
            states = [*pod.get("status", {}).get("containerStatuses", [])]
            if states and all(state.get("ready") for state in states):
                continue
            name = pod["metadata"]["name"]
            lines += [f"pod {name}: {pod.get('status', {}).get('phase', 'Unknown')}"]
            lines += [f"  {said}" for state in states for said in _states(state)]
            lines += [f"  {condition}" for condition in _unscheduled(pod)]
            events = self.get("events", f"--field-selector=involvedObject.name={name}")
            for event in (events or {"items": []})["items"][-5:]:
                lines.append(f"  event {event.get('reason')}: {event.get('message')}")
            lines += self._log(name, any(state.get("restartCount") for state in states))
        return "\n".join(lines)

    def undo(self, environment: str, replica_set: str) -> None:
        """Bring back the pod template of a ReplicaSet that is still there."""
        name = self.name(environment)
        sets = {each["metadata"]["name"]: each for each in self.replica_sets(environment)}
        found = sets[replica_set]
        self.kubectl("rollout", "undo", f"deployment/{name}", f"--to-revision={_revision(found)}")
        # What undoes a rollout changes the pods alone.
        version = found["spec"]["template"]["metadata"].get("labels", {}).get(VERSION_LABEL)
        if version:
            self.kubectl("label", "--overwrite", f"deployment/{name}", f"{VERSION_LABEL}={version}")

    @contextmanager
    def forwarded(self, environment: str) -> Iterator[str]:
        """Base URL of an environment's Service, through `kubectl port-forward`."""
        with programs.port_forward(self.namespace, f"service/{self.name(environment)}", "http") as port:
            yield f"http://127.0.0.1:{port}"

    def _selector(self, environment: str) -> str:
        return f"app.kubernetes.io/instance={self.name(environment)}"

    def _new_pods(self, environment: str) -> list[dict[str, Any]]:
        running = self.running(environment)
        found: list[dict[str, Any]] = self.get("pods", f"--selector={self._selector(environment)}")["items"]
        return [
            pod
            for pod in found
            if running and any(o["name"] == running.replica_set for o in pod["metadata"].get("ownerReferences", []))
        ]

    def _waiting(self, environment: str, deployment: Mapping[str, Any]) -> list[tuple[str, str]]:
        if not _observed(deployment):
            return []
        return [
            (pod["metadata"]["name"], reason)
            for pod in self._new_pods(environment)
            for state in pod.get("status", {}).get("containerStatuses", [])
            if (reason := state.get("state", {}).get("waiting", {}).get("reason")) in HOPELESS
            # One crash may be the node's fault.
            and (reason != "CrashLoopBackOff" or state.get("restartCount", 0) > 1)
        ]

    def _log(self, pod: str, restarted: bool) -> list[str]:
        previous = ("--previous",) if restarted else ()
        try:
            said = self.kubectl("logs", pod, f"--container={CONTAINER}", f"--tail={LOG_LINES}", *previous)
        except programs.ProgramError:
            # A container that was never started has none.
            return []
        return [f"  log: {line}" for line in said.splitlines()]


def _revision(found: Mapping[str, Any]) -> str:
    return str(found["metadata"].get("annotations", {}).get(REVISION, ""))


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
    """What a container's status says of why it does not run."""
    found = []
    waiting = state.get("state", {}).get("waiting")
    if waiting:
        found.append(f"{state['name']} waits: {waiting.get('reason')} {waiting.get('message', '')}".rstrip())
    for ended in (state.get("state", {}).get("terminated"), state.get("lastState", {}).get("terminated")):
        if ended:
            why = ended.get("reason", "")
            killed = ": it took more memory than its limit" if why == "OOMKilled" else ""
            found.append(f"{state['name']} ended with exit code {ended.get('exitCode')} ({why}){killed}")
    if not found and not state.get("ready"):
        found.append(f"{state['name']} runs and is not ready")
    return found


def _unscheduled(pod: Mapping[str, Any]) -> list[str]:
    return [
        f"not scheduled: {condition.get('message', '')}"
        for condition in pod.get("status", {}).get("conditions", [])
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False"
    ]
