"""Releases against a real control plane of Kubernetes: what its API server, its controllers and kubectl really do.

Its node runs no containers; it says that pods run, or crash.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlplatform.delivery.cluster import Cluster, items
from mlplatform.delivery.releases import objects, under_way
from mlplatform.store.releases import production
from mlplatform.tests.conftest import ROOT
from mlplatform.tests.delivery import real_kubectl
from mlplatform.tests.delivery.conftest import VERSIONS, Delivery, Repository
from mlplatform.tests.delivery.control_plane import CI, ControlPlane, control_plane
from mlplatform.tests.delivery.releasing import behave, deployed, history, image_of
from mlplatform.tests.delivery.rights import RULES

pytestmark = [pytest.mark.cluster, pytest.mark.serial]

KINDS = "deployments,horizontalpodautoscalers,networkpolicies,poddisruptionbudgets,services,serviceaccounts,configmaps"
# Refuses to change a NetworkPolicy, and only when it comes to it, as an admission webhook without dry runs may.
POLICY = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingAdmissionPolicy",
    "metadata": {"name": "late"},
    "spec": {
        "matchConstraints": {
            "resourceRules": [
                {
                    "apiGroups": ["networking.k8s.io"],
                    "apiVersions": ["v1"],
                    "operations": ["UPDATE"],
                    "resources": ["networkpolicies"],
                }
            ]
        },
        "validations": [{"expression": "has(request.dryRun) && request.dryRun", "message": "not on a Friday"}],
    },
}


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """The control plane of all tests."""
    programs = os.environ.get("CLUSTER_PROGRAMS")
    assert programs, "CLUSTER_PROGRAMS must name a directory with etcd and kube"
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = one.getsockname()[1], two.getsockname()[1]
    with control_plane(tmp_path_factory.mktemp("plane"), Path(programs), *ports) as found:
        yield found


@pytest.fixture
def site(cluster: Repository, plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Repository:
    """A repository that delivers into a namespace of its own, with the real kubectl."""
    script = tmp_path / "programs" / "kubectl"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{real_kubectl.__file__}" "$@"\n')
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig()))
    name = f"n{tmp_path.name[-20:].strip('-_').replace('_', '-').lower()}-{os.getpid()}"
    monkeypatch.setenv("DELIVERY_KUBERNETES_NAMESPACE", name)
    monkeypatch.setenv("DELIVERY_POLL_SECONDS", "0.2")
    plane.api.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    base = cluster.path / "deploy" / "k8s" / "base" / "deployment.yaml"
    base.write_text(base.read_text().replace("minReadySeconds: 5", "minReadySeconds: 0"))
    # The node asks there what pods do.
    (plane.directory / "behaviour.json").unlink(missing_ok=True)
    (cluster.programs / "behaviour.json").symlink_to(plane.directory / "behaviour.json")
    return cluster


def namespace() -> str:
    return os.environ["DELIVERY_KUBERNETES_NAMESPACE"]


def kept(environment: str = "production") -> list[Any]:
    """The objects of an environment, as far as a release can change them."""
    found = Cluster(namespace(), "under-test")
    selector = f"--selector=app.kubernetes.io/instance={found.name(environment)}"
    return [objects._kept(item) for item in items(found.get(KINDS, selector))]


def runs(environment: str = "production") -> str:
    """The version that the pods of an environment have."""
    running = Cluster(namespace(), "under-test").running(environment)
    return running.version.partition("-")[0] if running else ""


def change_settings(site: Repository) -> None:
    """Another release changes more than the image."""
    for file, old, new in (
        ("horizontalpodautoscaler.yaml", "maxReplicas: 10", "maxReplicas: 20"),
        ("kustomization.yaml", "SERVING_FINISH_SECONDS=20", "SERVING_FINISH_SECONDS=25"),
        ("networkpolicy.yaml", "- port: 8125", "- port: 8225"),
        ("deployment.yaml", "progressDeadlineSeconds: 300", "progressDeadlineSeconds: 299"),
    ):
        path = site.path / "deploy" / "k8s" / "base" / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))


def test_releases_and_two_rollbacks_go_where_they_should(site: Repository, delivery: Delivery) -> None:
    for version in VERSIONS:
        deployed(site, delivery, "production", version)
    assert runs() == VERSIONS[2]
    for version in (VERSIONS[1], VERSIONS[0]):
        said = delivery("rollback", "--environment", "production")
        assert said.code == 0, said.err
        assert (runs(), production(site.store)) == (version, version)
    # By the pods' template that the cluster had kept: no fourth one was made.
    assert len(Cluster(namespace(), "under-test").look("production").replica_sets) == 3
    assert "settled" in delivery("status").out


def test_a_release_that_crashes_is_taken_back_with_all_that_it_changed(site: Repository, delivery: Delivery) -> None:
    deployed(site, delivery, "production", VERSIONS[0])
    before, bad = kept(), image_of(site, VERSIONS[1])
    behave(site, bad, "crash")
    change_settings(site)
    said = delivery("deploy", "--environment", "production", "--image", bad)
    assert said.code == 1
    assert "container serving is in CrashLoopBackOff" in said.err
    assert said.err.splitlines()[-1] == "rolled back: production runs aaaaaaaaaaaa-0123456 as before"
    assert kept() == before
    assert len(Cluster(namespace(), "under-test").look("production").replica_sets) == 2


def test_a_first_release_that_fails_leaves_nothing(site: Repository, delivery: Delivery) -> None:
    bad = image_of(site, VERSIONS[0])
    behave(site, bad, "crash")
    said = delivery("deploy", "--environment", "production", "--image", bad)
    assert said.code == 1
    assert "nothing ran in production before, so all that was made there is removed" in said.err
    assert kept() == []


def test_what_a_user_may_not_change_is_found_before_anything_is(
    site: Repository, delivery: Delivery, plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed(site, delivery, "production", VERSIONS[0])
    before = kept()
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace()}"
    plane.api.ask("POST", f"{rbac}/roles", {"metadata": {"name": "ci"}, "rules": RULES})
    subject = {"kind": "User", "name": "ci", "apiGroup": "rbac.authorization.k8s.io"}
    role = {"kind": "Role", "name": "ci", "apiGroup": "rbac.authorization.k8s.io"}
    plane.api.ask("POST", f"{rbac}/rolebindings", {"metadata": {"name": "ci"}, "subjects": [subject], "roleRef": role})
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig(CI)))
    change_settings(site)
    said = delivery("deploy", "--environment", "production", "--image", image_of(site, VERSIONS[1]))
    assert said.code == 1
    message = (
        'the cluster refuses it: networkpolicies.networking.k8s.io "under-test" is forbidden: User "ci" cannot patch '
        f'resource "networkpolicies" in API group "networking.k8s.io" in the namespace "{namespace()}"'
    )
    assert f"bbbbbbbbbbbb was not released to production, and nothing was changed: {message}\n" in said.err
    assert history(site)[-1]["reason"] == message
    assert kept() == before


def test_what_is_refused_half_way_is_taken_back(site: Repository, delivery: Delivery, plane: ControlPlane) -> None:
    deployed(site, delivery, "production", VERSIONS[0])
    admission = "/apis/admissionregistration.k8s.io/v1"
    plane.api.ask("POST", f"{admission}/validatingadmissionpolicies", POLICY)
    spec = {
        "policyName": "late",
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace()}}},
    }
    binding = {"metadata": {"name": "late"}, "spec": spec}
    plane.api.ask("POST", f"{admission}/validatingadmissionpolicybindings", binding)
    try:
        until_refused(plane)
        before = kept()
        change_settings(site)
        said = delivery("deploy", "--environment", "production", "--image", image_of(site, VERSIONS[1]))
    finally:
        for kind in ("validatingadmissionpolicybindings", "validatingadmissionpolicies"):
            plane.api.ask("DELETE", f"{admission}/{kind}/late")
    assert said.code == 1
    (sentence,) = [line for line in said.err.splitlines() if line.startswith("deploy: bbbbbbbbbbbb does not run in")]
    assert "the cluster refuses it: " in sentence
    assert sentence.endswith("denied request: not on a Friday")
    assert said.err.splitlines()[-1] == "rolled back: production runs aaaaaaaaaaaa-0123456 as before"
    assert kept() == before
    assert history(site)[-1]["outcome"] == "failed, rolled back"


def until_refused(plane: ControlPlane) -> None:
    """Wait until the admission policy takes effect, which is some time after it was made."""
    path = f"{plane.url}/apis/networking.k8s.io/v1/namespaces/{namespace()}/networkpolicies/under-test"
    headers = {"Content-Type": "application/merge-patch+json"}
    for number in range(1000):
        patch = {"metadata": {"annotations": {"try": str(number)}}}
        if plane.api.session.patch(path, json=patch, headers=headers, timeout=10).status_code == 422:
            break
        threading.Event().wait(0.1)
    else:
        raise AssertionError("the policy never took effect")


def test_a_sidecar_that_crashes_ends_the_rollout_at_once(site: Repository, delivery: Delivery) -> None:
    overlay = site.path / "deploy" / "k8s" / "overlays" / "production" / "kustomization.yaml"
    overlay.write_text(overlay.read_text().replace("components: []", "components: [../../components/events]"))
    assert delivery("image", "events").code == 0
    bad = image_of(site, VERSIONS[0])
    behave(site, bad, "sidecar")
    said = delivery("deploy", "--environment", "production", "--image", bad)
    assert said.code == 1
    assert "container events is in CrashLoopBackOff" in said.err
    assert "  events waits: CrashLoopBackOff back-off 20s restarting failed container" in said.err


class TestApiServerAway:
    """The API server is gone while a release is under way."""

    def goes(self, plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, noticed: Callable[[], None]) -> None:
        """It goes as soon as the manifests are applied. noticed: called when delivery says that it does not answer."""
        apply = Cluster.apply

        def and_goes(self: Cluster, manifests: str) -> list[str]:
            lines, say = apply(self, manifests), self.say

            def tells(line: str) -> None:
                say(line)
                if "does not answer" in line:
                    noticed()

            self.say = tells
            plane.stop_api()
            return lines

        monkeypatch.setattr(Cluster, "apply", and_goes)

    def test_for_a_while_the_release_goes_on(
        self, site: Repository, delivery: Delivery, plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.goes(plane, monkeypatch, plane.start_api)
        said = delivery("deploy", "--environment", "production", "--image", image_of(site, VERSIONS[0]))
        assert said.code == 0, said.err
        assert said.err.count("the cluster does not answer, asked again for 600 s: The connection to the server") == 1
        assert said.err.count("the cluster answers again, after ") == 1
        assert (runs(), history(site)[-1]["outcome"]) == (VERSIONS[0], "done")

    def test_for_good_the_next_command_takes_it_back(
        self, site: Repository, delivery: Delivery, plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deployed(site, delivery, "production", VERSIONS[0])
        before = kept()
        change_settings(site)
        self.goes(plane, monkeypatch, lambda: None)
        monkeypatch.setenv("DELIVERY_ROLLOUT_SECONDS", "1")
        try:
            said = delivery("deploy", "--environment", "production", "--image", image_of(site, VERSIONS[1]))
            still = delivery("status")
        finally:
            plane.start_api()
        assert said.code == 1
        assert "AND IT COULD NOT BE TAKEN BACK: the cluster does not answer for " in said.err
        assert said.err.splitlines()[-1].endswith("python -m mlplatform status")
        assert still.code == 1
        assert "was cut off, and cannot be taken back now: the cluster does not answer" in still.err
        status = delivery("status")
        assert status.code == 0, status.err
        assert "was cut off; rolled back: production runs aaaaaaaaaaaa-0123456 as before" in status.err
        assert kept() == before
        assert list(site.store.keys(under_way.PREFIX)) == []


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("step", ["port_forward", "replace releases/under-way", "replace releases/production"])
def test_a_release_that_is_stopped_is_taken_back_or_recorded(
    site: Repository, delivery: Delivery, name: str, step: str
) -> None:
    deployed(site, delivery, "production", VERSIONS[0])
    before = kept()
    change_settings(site)
    image = image_of(site, VERSIONS[1])
    asked = {"signal": name, "step": step, "arguments": ["deploy", "--environment", "production", "--image", image]}
    code, reached = killed(asked)
    assert reached
    if name == "SIGTERM":
        assert code in (0, 130)
        assert list(site.store.keys(under_way.PREFIX)) == []
    status = delivery("status")
    assert status.code == 0, status.err
    if history(site)[-1]["outcome"] == "done":
        assert (runs(), production(site.store)) == (VERSIONS[1], VERSIONS[1])
    else:
        assert (kept(), history(site)[-1]["outcome"]) == (before, "failed, rolled back")
        assert production(site.store) == VERSIONS[0]
    assert len(history(site)) == 2
    deployed(site, delivery, "production", VERSIONS[2])
    assert (runs(), production(site.store)) == (VERSIONS[2], VERSIONS[2])


def killed(asked: dict[str, Any]) -> tuple[int, bool]:
    """What a command came to that was stopped at a step."""
    done = subprocess.run(
        [sys.executable, "-m", "mlplatform.tests.delivery.killed"],
        input=json.dumps(asked) + "\n",
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        check=True,
    )
    code, reached = json.loads(done.stdout)
    return code, reached
