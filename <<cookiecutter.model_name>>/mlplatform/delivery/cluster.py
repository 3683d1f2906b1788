"""The service in the cluster, through kubectl: what runs, whether a rollout succeeds, and if not, why."""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mlplatform.delivery import pods, programs
from mlplatform.delivery.console import Console
from mlplatform.delivery.errors import DeliveryError
from mlplatform.delivery.pods import Object, Seen

VERSION_LABEL = "tags.datadoghq.com/version"
# As deploy/k8s/base/deployment.yaml names it.
CONTAINER = "serving"
LOG_LINES = 15
# What kubectl says where no API server answers, or where one says that it cannot for now. A certificate or a host name
# that is wrong does not mend itself.
AWAY = re.compile(
    r"Unable to connect to the server: (?!.*(x509|certificate|no such host))|connection to the server \S+ was refused"
    r"|i/o timeout|TLS handshake timeout|http2: client connection lost|unexpected EOF|connection reset by peer"
    r"|no route to host|network is unreachable|\((ServiceUnavailable|Timeout|TooManyRequests)\)"
    r"|unable to handle the request|etcdserver: |no answer within"
)
# The sentence that matters in what kubectl says of an object that it could not apply: the patch comes before it.
REFUSAL = re.compile(r'(?:error when \w+|^from server for:) "[^"]*": (.+)', re.MULTILINE)


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
    """A rollout that failed; the message says why."""


class AwayError(programs.ProgramError):
    """The cluster does not answer, for longer than was to be waited."""


class Cluster:
    """The namespace that the settings name. Every call raises DeliveryError, AwayError if the cluster does not answer.

    patience: seconds for which a cluster that does not answer is asked again; 0: it is asked once. say: gets a line
    about that. deadline: moment of time.monotonic() at which every call has ended, None for those of each call.
    """

    def __init__(self, namespace: str, service: str) -> None:
        self.namespace = namespace
        self.service = service
        self.patience = 0.0
        self.poll = 1.0
        self.deadline: float | None = None
        self.say: Callable[[str], None] = lambda line: None
        # Seconds in which the cluster did not answer, so far.
        self.away = 0.0

    def name(self, environment: str) -> str:
        """The name of an environment's Deployment and Service, and the label of its pods."""
        return self.service if environment == "production" else f"{self.service}-{environment}"

    def kubectl(self, *arguments: str, stdin: str | None = None, seconds: float = 60) -> str:
        """The output of kubectl, which is asked again while the cluster is away. Raises ProgramError or AwayError."""
        began = time.monotonic()
        asked_again = False
        while True:
            try:
                said = self._ask(*arguments, stdin=stdin, seconds=seconds)
            except programs.ProgramError as error:
                if not AWAY.search(str(error)):
                    raise
                lasted = time.monotonic() - began
                if self.patience <= lasted:
                    for_so_long = f" for {lasted:.0f} s" if self.patience else ""
                    raise AwayError(f"the cluster does not answer{for_so_long}: {_last_line(error)}") from None
                if not asked_again:
                    self.say(f"the cluster does not answer, asked again for {self.patience:g} s: {_last_line(error)}")
                asked_again = True
                time.sleep(self.poll)
                continue
            if asked_again:
                self.away += time.monotonic() - began
                self.say(f"the cluster answers again, after {time.monotonic() - began:.0f} s")
            return said

    def get(self, *arguments: str, stdin: str | None = None) -> Any:
        """The JSON of `kubectl get`, or None if there is nothing of that name."""
        text = self.kubectl("get", *arguments, "--output=json", "--ignore-not-found", stdin=stdin)
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
            image=pods.image(deployment, CONTAINER),
            version=template["metadata"].get("labels", {}).get(VERSION_LABEL, ""),
            replica_set=seen.replica_set,
            ready=int(status.get("readyReplicas", 0)),
            wanted=int(deployment["spec"].get("replicas", 1)),
            settled=pods.settled(deployment),
        )

    def image(self, environment: str, container: str) -> str:
        """The image of a container of an environment's pods; empty if there is none."""
        deployment = self.look(environment).deployment
        return pods.image(deployment, container) if deployment else ""

    def look(self, environment: str) -> Seen:
        """The Deployment of an environment, its ReplicaSets, each a pod template to go back to, and its pods."""
        name = self.name(environment)
        objects = self._listed("deployments,replicasets,pods", f"--selector=app.kubernetes.io/instance={name}")
        by_kind = {
            kind: [item for item in objects if item["kind"] == kind] for kind in ("Deployment", "ReplicaSet", "Pod")
        }
        deployments = [deployment for deployment in by_kind["Deployment"] if deployment["metadata"]["name"] == name]
        return Seen(deployments[0] if deployments else None, by_kind["ReplicaSet"], by_kind["Pod"])

    def try_apply(self, manifests: str) -> list[Object]:
        """The objects that `apply` would make or change, after all checks of the cluster. Nothing is changed."""
        return items(json.loads(self._apply(manifests, "--dry-run=server", "--output=json")))

    def apply(self, manifests: str) -> list[str]:
        """Apply manifests; a line for each object that is new or changed."""
        return [line for line in self._apply(manifests).splitlines() if not line.endswith("unchanged")]

    def wait(self, environment: str, seconds: float, poll: float, console: Console) -> None:
        """Wait until every pod is of the newest template and available, and say how far it is.

        Raises Rollout if that takes too long, if the cluster gives up, or if a pod is seen to get nowhere. Time in
        which the cluster does not answer does not count.
        """
        name, shown, hopeless = self.name(environment), "", dict[str, float]()
        end = self._now() + seconds
        while True:
            seen = self.look(environment)
            deployment = seen.deployment
            if deployment is None:
                raise Rollout(f"the Deployment {name} is gone: somebody deleted it")
            if pods.settled(deployment):
                return
            progress = pods.progress(deployment)
            if progress != shown:
                shown = progress
                console.say(f"deploy: {progress}")
            for condition in deployment.get("status", {}).get("conditions", []):
                if condition.get("reason") == "ProgressDeadlineExceeded" and pods.observed(deployment):
                    raise Rollout(f"the rollout made no progress for too long: {condition.get('message', '')}")
            for pod, container, reason in pods.held_up(seen):
                since = hopeless.setdefault(f"{pod} {container} {reason}", self._now())
                if self._now() - since >= pods.HOPELESS[reason]:
                    raise Rollout(f"pod {pod} does not start: container {container} is in {reason}")
            if self._now() > end:
                raise Rollout(f"it was not ready within {seconds:g} s (rollout_seconds of [delivery])")
            time.sleep(poll)

    def diagnosis(self, environment: str) -> str:
        """What is wrong with the pods of the newest template that are not ready: states, events, last log lines."""
        lines: list[str] = []
        seen = self.look(environment)
        if not seen.new_pods:
            return pods.podless(seen.deployment)
        for pod in seen.new_pods:
            broken = pods.broken(pod)
            if pods.containers(pod) and not broken:
                continue
            name = pod["metadata"]["name"]
            lines += [f"pod {name}: {pod.get('status', {}).get('phase', 'Unknown')}"]
            lines += [f"  {said}" for state in broken for said in pods.reasons(state)]
            lines += [f"  {condition}" for condition in pods.unscheduled(pod)]
            lines += pods.event_lines(self._listed("events", f"--field-selector=involvedObject.name={name}"))
            lines += [f"  log: {line}" for state in broken for line in self.log(name, state)]
        return "\n".join(lines)

    def log(self, pod: str, state: Object) -> list[str]:
        """The last lines that a container said, before its last restart if there was one. state: as the pod has it."""
        previous = ("--previous",) if state.get("restartCount") else ()
        try:
            return self.kubectl(
                "logs", pod, f"--container={state['name']}", f"--tail={LOG_LINES}", *previous
            ).splitlines()
        except programs.ProgramError:
            # A container that was never started has none.
            return []

    def check_sidecar(self, environment: str, container: str, trouble: str) -> None:
        """Raise Rollout if a sidecar of the newest pods has restarted or has said a line that begins with `trouble`.

        A sidecar's trouble is no reason for Kubernetes to hold a rollout up: the server beside it is well.
        """
        for pod in self.look(environment).new_pods:
            name = pod["metadata"]["name"]
            for state in pods.containers(pod):
                if state["name"] != container:
                    continue
                lines = self.kubectl("logs", name, f"--container={container}", f"--tail={LOG_LINES}").splitlines()
                if state.get("restartCount") or any(line.startswith(trouble) for line in lines):
                    told = "\n".join(f"  log: {line}" for line in lines)
                    raise Rollout(f"pod {name}: container {container} does not keep running\n{told}")

    @contextmanager
    def forwarded(self, environment: str) -> Iterator[str]:
        """Base URL of an environment's Service, through `kubectl port-forward`."""
        with programs.port_forward(self.namespace, f"service/{self.name(environment)}", "http") as port:
            yield f"http://127.0.0.1:{port}"

    def _now(self) -> float:
        """Seconds of a clock that stands still while the cluster does not answer."""
        return time.monotonic() - self.away

    def _ask(self, *arguments: str, stdin: str | None, seconds: float) -> str:
        left = seconds if self.deadline is None else max(0.1, min(seconds, self.deadline - time.monotonic()))
        options = (f"--namespace={self.namespace}", f"--request-timeout={max(1, min(30, int(left)))}s")
        return programs.output("kubectl", *arguments, *options, stdin=stdin, seconds=left)

    def _apply(self, manifests: str, *options: str) -> str:
        try:
            return self.kubectl("apply", "--filename=-", *options, stdin=manifests, seconds=120)
        except AwayError:
            raise
        except programs.ProgramError as error:
            refusals = list(dict.fromkeys(REFUSAL.findall(error.said)))
            said = "; ".join(refusals) or error.said.removeprefix("error: ")
            raise programs.ProgramError(f"the cluster refuses it: {said}", error.said) from None

    def _listed(self, *arguments: str) -> list[Object]:
        # kubectl prints nothing, rather than an empty list, where there is nothing.
        return items(self.get(*arguments))


def items(answer: Any) -> list[Object]:
    """The objects in an answer of kubectl, which is a list of them, one object, or None."""
    if answer is None:
        return []
    return list(answer["items"]) if "items" in answer else [answer]


def _last_line(error: programs.ProgramError) -> str:
    line = str(error).strip().splitlines()[-1]
    if "localhost:8080 was refused" in line:
        # What kubectl tries where nothing names a cluster.
        return "kubectl knows of none; set KUBECONFIG, or choose one by `kubectl config use-context NAME`"
    return line
