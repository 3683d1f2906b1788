"""Tries deploy/k8s in the cluster that KUBECONFIG names: `nox -s cluster`, with `-- --image REF` to start pods, too.

Everything happens in a namespace of its own that enforces Pod Security `restricted` and is deleted at the end. Made for
kind, minikube, and an API server without nodes, which is asked as far as it can answer.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import yaml

from tests.deploy.manifests import COMPONENTS, K8S, OVERLAYS, Manifest, build, build_with, container, kubectl, one, pod

READY = "/v2/health/ready"


class RefusedError(Exception):
    """What the cluster did not do, in kubectl's words."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 if the cluster did all that was asked of it, 1 if it refused something, 2 if no cluster answers."""
    parser = argparse.ArgumentParser(prog="nox -s cluster --", description="Try deploy/k8s in a cluster.")
    parser.add_argument("--image", help="a serving image that the nodes have or can pull; without it no pod is started")
    image = parser.parse_args(arguments).image
    try:
        version = json.loads(ask("version", "--output=json"))["serverVersion"]["gitVersion"]
    except (RefusedError, KeyError) as error:
        print(f"error: no cluster answers; KUBECONFIG must name one.\n{error}", file=sys.stderr)
        return 2
    try:
        with namespace() as name:
            print(f"Kubernetes {version}, namespace {name}, Pod Security restricted")
            for overlay in OVERLAYS:
                try_objects(overlay, name)
            why_not = "" if ready_nodes() else "no node is ready to run them"
            if not why_not and image is None:
                why_not = "no image is given (nox -s cluster -- --image REF)"
            if why_not:
                print(f"stopped here: all objects are accepted; no pods, as {why_not}")
                return 0
            try_rollout(name, image)
    except RefusedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def ask(*arguments: str, given: str | None = None) -> str:
    """What kubectl prints; RefusedError with its error."""
    ran = subprocess.run([kubectl(), *arguments], input=given, capture_output=True, text=True)
    if ran.returncode:
        raise RefusedError(ran.stderr.strip())
    return ran.stdout


@contextmanager
def namespace() -> Iterator[str]:
    """A new namespace that enforces Pod Security `restricted`; deleted on leaving, whatever happened."""
    name = f"deploy-check-{uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}])
    try:
        yield name
    finally:
        ask("delete", "namespace", name, "--wait=false")


def apply(manifests: list[Manifest], *options: str) -> None:
    """kubectl apply. Unknown and duplicate fields are errors, also with an old kubectl."""
    ask("apply", "--validate=strict", "--filename=-", *options, given=yaml.safe_dump_all(manifests))


def within(manifests: list[Manifest], name: str) -> list[Manifest]:
    """The same objects in another namespace."""
    return [{**each, "metadata": {**each["metadata"], "namespace": name}} for each in manifests]


def try_objects(overlay: str, name: str) -> None:
    """Offer an overlay with each component, make the overlay's objects but its pods, and offer one of those."""
    manifests = within(build(K8S / "overlays" / overlay), name)
    apply(manifests, "--dry-run=server")
    known = set(ask("api-resources", "--output=name").split())
    taken = []
    for component in COMPONENTS:
        with tempfile.TemporaryDirectory() as directory:
            extended = within(build_with(overlay, component, Path(directory)), name)
        if (
            any(each["kind"] == "HTTPRoute" for each in extended)
            and "httproutes.gateway.networking.k8s.io" not in known
        ):
            print(f"{overlay}: {component} is not tried, as the cluster has no Gateway API")
            continue
        apply(extended, "--dry-run=server")
        taken.append(component)
    paused = [
        {**each, "spec": {**each["spec"], "replicas": 0}} if each["kind"] == "Deployment" else each
        for each in manifests
    ]
    apply([each for each in paused if each["kind"] != "HorizontalPodAutoscaler"])
    template = pod(manifests)
    offered = {"apiVersion": "v1", "kind": "Pod", "spec": template["spec"]}
    offered["metadata"] = {**template["metadata"], "name": f"offered-{overlay}", "namespace": name}
    apply([offered], "--dry-run=server")
    outside = {**offered, "spec": {**template["spec"], "hostNetwork": True}}
    try:
        apply([outside], "--dry-run=server")
    except RefusedError:
        pass
    else:
        raise RefusedError("this cluster does not enforce Pod Security: a pod on the host's network was accepted")
    print(f"{overlay}: {len(manifests)} objects and a pod are accepted, also with {', '.join(taken)}")


def ready_nodes() -> int:
    """How many nodes can run pods."""
    nodes = json.loads(ask("get", "nodes", "--output=json"))["items"]
    return sum(
        any(each["type"] == "Ready" and each["status"] == "True" for each in node["status"].get("conditions", []))
        for node in nodes
    )


def try_rollout(name: str, image: str) -> None:
    """Roll staging out, then another version while it is asked, then the first again; then the ghost."""
    first = with_image(within(build(K8S / "overlays" / "staging"), name), image, "first")
    roll_out("staging: the first version", first, name)
    with asked_steadily(first, name) as answers:
        second = with_image(first, image, "second")
        roll_out("staging: the second version, under requests", second, name)
        deployment = one(first, "Deployment")["metadata"]["name"]
        ask("rollout", "undo", f"deployment/{deployment}", "--namespace", name)
        wait("staging: back to the first version, under requests", deployment, name)
    failed = [answer for answer in answers if answer]
    print(f"staging: {len(answers)} requests meanwhile, {len(failed)} failed")
    if failed:
        raise RefusedError(f"requests failed during a rollout: {failed[0]}")
    version = ask("get", f"deployment/{deployment}", "--namespace", name, "--output=json")
    found = json.loads(version)["spec"]["template"]["metadata"]["labels"]["tags.datadoghq.com/version"]
    if found != "first":
        raise RefusedError(f"after the rollback the version is {found}")
    ghost = with_image(within(build(K8S / "overlays" / "ghost"), name), image, "first")
    roll_out("ghost", ghost, name)


def with_image(manifests: list[Manifest], image: str, version: str) -> list[Manifest]:
    """The same objects with an image, a version, and a tenth of a core, so that a laptop has room for two pods."""
    changed: list[Manifest] = json.loads(json.dumps(manifests))
    template = pod(changed)
    template["metadata"]["labels"]["tags.datadoghq.com/version"] = version
    template["spec"]["containers"][0] |= {"image": image, "imagePullPolicy": "IfNotPresent"}
    container(changed)["resources"]["requests"]["cpu"] = "100m"
    return changed


def roll_out(what: str, manifests: list[Manifest], name: str) -> None:
    """Apply, and wait until all pods are of this version and ready, and the Service leads to one of them."""
    apply(manifests)
    wait(what, one(manifests, "Deployment")["metadata"]["name"], name)
    get_ready(manifests, name)


def wait(what: str, deployment: str, name: str) -> None:
    """Wait for a rollout, at most its own deadline; RefusedError with the pods, events and logs if it fails."""
    began = time.monotonic()
    try:
        ask("rollout", "status", f"deployment/{deployment}", "--namespace", name, "--timeout=600s")
    except RefusedError as error:
        pods = ask("get", "pods", "--namespace", name, "--output=wide")
        events = ask("get", "events", "--namespace", name, "--sort-by=.lastTimestamp")
        logs = subprocess.run(
            [kubectl(), "logs", f"deployment/{deployment}", "--namespace", name, "--tail=20"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ).stdout
        raise RefusedError(f"{what}: {error}\n{pods}\n{events}\n{logs}") from None
    print(f"{what}: rolled out in {time.monotonic() - began:.0f} s")


def get_ready(manifests: list[Manifest], name: str) -> None:
    """Ask the Service whether it is ready, through the API server."""
    service = one(manifests, "Service")
    port = service["spec"]["ports"][0]["port"]
    ask("get", "--raw", f"/api/v1/namespaces/{name}/services/{service['metadata']['name']}:{port}/proxy{READY}")


@contextmanager
def asked_steadily(manifests: list[Manifest], name: str) -> Iterator[list[str]]:
    """Ask the Service again and again; the list gets an empty text for each answer, the error for each failure."""
    answers: list[str] = []
    stop = threading.Event()

    def keep_asking() -> None:
        while not stop.wait(0.1):
            try:
                get_ready(manifests, name)
                answers.append("")
            except RefusedError as error:
                answers.append(str(error))

    thread = threading.Thread(target=keep_asking)
    thread.start()
    try:
        yield answers
    finally:
        stop.set()
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
