"""Tries deploy/k8s and `python -m mlplatform` in the cluster that KUBECONFIG names: `nox -s cluster`.

Everything happens in a namespace of its own that enforces Pod Security `restricted` and is deleted at the end. Made for
kind, minikube, and an API server without nodes, which is asked as far as it can answer. With `-- --image REF`, a
serving image by digest that nodes can pull, releases are played as somebody at a keyboard would: two that work, a
rollback, one that crashes at its start, a ghost that is promoted. Without it one that no node can start, which is
taken back.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import yaml

from mlplatform.delivery.errors import DeliveryError
from mlplatform.delivery.images.registry import Image
from mlplatform.delivery.images.registry import Registry as Client
from mlplatform.store import manifest
from mlplatform.store.storage import LocalStorage
from mlplatform.tests.deploy.manifests import (
    COMPONENTS,
    K8S,
    OVERLAYS,
    ROOT,
    Manifest,
    build,
    build_with,
    kubectl,
    one,
    pod,
)
from mlplatform.tests.registry import Registry

READY = "/v2/health/ready"


class RefusedError(Exception):
    """What the cluster did not do, in kubectl's words."""


@dataclass(frozen=True)
class Ran:
    """What a command of delivery came to: exit code, result, and what it said on its way."""

    code: int
    out: str
    err: str


class Site:
    """A copy of the manifests and settings to deliver from, and a store. environment: of every command."""

    def __init__(self, directory: Path, namespace: str, rollout_seconds: int) -> None:
        self.directory = directory
        self.namespace = namespace
        shutil.copytree(ROOT / "deploy", directory / "deploy")
        shutil.copyfile(ROOT / "service.toml", directory / "service.toml")
        self.store = LocalStorage(directory / "store")
        # The kubectl of requirements/dev.txt is the one that is tried.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "DD_API_KEY"},
            "PATH": path,
            "PYTHONPATH": str(ROOT),
            "DELIVERY_KUBERNETES_NAMESPACE": namespace,
            "DELIVERY_STORAGE_URL": str(directory / "store"),
            "DELIVERY_ROLLOUT_SECONDS": str(rollout_seconds),
            "DELIVERY_POLL_SECONDS": "1",
        }

    def overlay(self, environment: str) -> Path:
        """The overlay of an environment, to be changed."""
        return self.directory / "deploy" / "k8s" / "overlays" / environment

    def change(self, environment: str, **settings: str) -> None:
        """A tenth of a core a pod, so that a laptop has room, and these settings of the server."""
        shutil.copyfile(K8S / "overlays" / environment / "kustomization.yaml", self._file(environment))
        found = yaml.safe_load(self._file(environment).read_text(encoding="utf-8"))
        operation = {
            "op": "replace",
            "path": "/spec/template/spec/containers/0/resources/requests/cpu",
            "value": "100m",
        }
        patch = {"target": {"kind": "Deployment"}, "patch": yaml.safe_dump([operation])}
        found.setdefault("patches", []).append(patch)
        name = one(build(K8S / "base"), "Deployment")["metadata"]["name"]
        generated = {"name": name, "behavior": "merge", "literals": []}
        generators = found.setdefault("configMapGenerator", [generated])
        generators[0]["literals"] += [f"{key}={value}" for key, value in settings.items()]
        self._file(environment).write_text(yaml.safe_dump(found), encoding="utf-8")

    def delivery(self, *arguments: str) -> Ran:
        """Run a command and show it as somebody at a keyboard sees it."""
        print(f"\n$ python -m mlplatform {' '.join(arguments)}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "mlplatform", *arguments],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        shown = done.stdout if len(done.stdout) < 2000 else f"({len(done.stdout.splitlines())} lines of manifests)\n"
        print(f"{done.stderr}{shown}exit code {done.returncode}", flush=True)
        return Ran(done.returncode, done.stdout, done.stderr)

    def _file(self, environment: str) -> Path:
        return self.overlay(environment) / "kustomization.yaml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 if the cluster did all that was asked of it, 1 if it did not, 2 if no cluster answers."""
    parser = argparse.ArgumentParser(prog="nox -s cluster --", description="Try deploy/k8s in a cluster.")
    parser.add_argument("--image", help="a serving image by digest, as `bundle` prints it, that nodes can pull")
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
            try_delivery(name, image)
    except (RefusedError, DeliveryError) as error:
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
    """Offer an overlay with each component, make what its pods need, and offer one of those."""
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
    # What a pod needs to be let in; the Deployment and its autoscaler are for delivery to bring.
    apply([each for each in manifests if each["kind"] not in ("Deployment", "HorizontalPodAutoscaler")])
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


def try_delivery(name: str, image: str | None) -> None:
    """Play releases with the image if pods can be started, else one that cannot work."""
    nodes = ready_nodes()
    with tempfile.TemporaryDirectory() as directory:
        if image is None or not nodes:
            why_not = (
                "no node is ready to run pods" if not nodes else "no image is given (nox -s cluster -- --image REF)"
            )
            print(f"\nno release that works is played, as {why_not}")
            # A node needs half a minute to find out that there is no image, and is then given a minute for it.
            try_failure(Site(Path(directory), name, 150 if nodes else 20))
        else:
            try_releases(Site(Path(directory), name, 300), image)


def try_failure(site: Site) -> None:
    """Release an image that no node has or can pull: it is said why, and nothing is left but the failure's entry."""
    with Registry().running() as registry:
        (name,) = names(site, "staging", "Deployment")
        repository = f"{name.removesuffix('-staging')}-serving"
        digest = registry.add_image(repository, "1", {"org.opencontainers.image.version": "none"})
        image = f"{registry.host}/{repository}@{digest}"
        try_manifests(site, image)
        said = expect(site.delivery("deploy", "--environment", "staging", "--image", image), 1, "none does not run in")
        told = said.err[said.err.index("none does not run in") :]
        if not any(line.startswith("pod ") or "no pod was made" in line for line in told.splitlines()):
            raise RefusedError("the failed deploy does not say what became of its pods")
    expect(said, 1, f"nothing ran there before, so the Deployment {name} was removed")
    expect(site.delivery("status"), 0, "nothing runs")
    expect(site.delivery("rollback", "--environment", "staging"), 3, "there is no release before the one that runs")
    expect(site.delivery("history"), 0, "failed")


def try_releases(site: Site, image: str) -> None:
    """Two releases to staging, a rollback and one that crashes, all while staging is asked; a ghost; its promotion."""
    found = Image.parse(image)
    if found is None:
        raise RefusedError(f"--image {image}: must name its digest, registry/name@sha256:...")
    version = Client(found.host).labels(found).get("org.opencontainers.image.version", "")
    # Production takes only what the store has.
    (site.directory / "model" / "saved_model").mkdir(parents=True)
    (site.directory / "model" / "saved_model" / "saved_model.pb").write_text("in the image")
    manifest.publish(site.store, f"models/{version}", site.directory / "model", "model", version, {})
    try_manifests(site, image)
    to_staging = ("deploy", "--environment", "staging", "--image", image)
    site.change("staging")
    expect(site.delivery(*to_staging), 0, f"it serves {names(site, 'production', 'Deployment')[0]} {version}")
    (service,) = names(site, "staging", "Service")
    with asked_steadily(service, site.namespace) as answers:
        # Other settings make other pods, as another image would.
        site.change("staging", SERVING_FINISH_SECONDS="19")
        expect(site.delivery(*to_staging), 0, "old ones left")
        expect(site.delivery("rollback", "--environment", "staging"), 0, f"staging runs {version}")
        site.change("staging", SERVING_NO_SUCH_SETTING="1")
        crashed = expect(site.delivery(*to_staging), 1, f"{version} does not run in staging")
        for told in ("CrashLoopBackOff", "event ", "log: ", "NO_SUCH_SETTING", "rolled back: staging runs"):
            expect(crashed, 1, told)
        site.change("staging")
        expect(site.delivery("status"), 0, "settled")
    failed = [answer for answer in answers if answer]
    print(f"\nstaging: {len(answers)} requests meanwhile, {len(failed)} failed")
    if failed:
        raise RefusedError(f"requests failed during a rollout: {failed[0]}")
    for environment in ("ghost", "production"):
        site.change(environment)
    expect(site.delivery("promote"), 3, "no ghost runs")
    expect(site.delivery("deploy", "--environment", "ghost", "--image", image), 0, f"ghost runs {version}")
    expect(site.delivery("promote"), 3, "there is no ghost report")
    expect(site.delivery("promote", "--override", "a trial"), 0, f"production runs {version}")
    expect(site.delivery("ghost", "stop"), 0, "removed deployment")
    expect(site.delivery("status"), 0, f"in production, as the store has it: {version}")
    expect(site.delivery("history"), 0, "failed, rolled back")


def try_manifests(site: Site, image: str) -> None:
    """Offer the cluster what delivery would apply, for each environment."""
    for environment in OVERLAYS:
        said = expect(site.delivery("deploy", "--environment", environment, "--image", image, "--dry-run"), 0, image)
        apply(list(yaml.safe_load_all(said.out)), "--dry-run=server")
        print(f"{environment}: the cluster accepts it")


def names(site: Site, environment: str, kind: str) -> list[str]:
    """Names of an environment's objects of a kind."""
    return [each["metadata"]["name"] for each in build(site.overlay(environment)) if each["kind"] == kind]


def expect(ran: Ran, code: int, text: str) -> Ran:
    """The same, or RefusedError if it did not end so or does not say this."""
    if ran.code != code or text not in ran.out + ran.err:
        raise RefusedError(f"the command above was to end with {code} and say {text!r}")
    return ran


def get_ready(service: str, name: str) -> None:
    """Ask a Service whether it is ready, through the API server."""
    ask("get", "--raw", f"/api/v1/namespaces/{name}/services/{service}:http/proxy{READY}")


@contextmanager
def asked_steadily(service: str, name: str) -> Iterator[list[str]]:
    """Ask the Service again and again; the list gets an empty text for each answer, the error for each failure."""
    answers: list[str] = []
    stop = threading.Event()

    def keep_asking() -> None:
        while not stop.wait(0.1):
            try:
                get_ready(service, name)
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
