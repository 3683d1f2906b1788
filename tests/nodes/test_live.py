"""Nobody who asks a live service notices what happens to its pods: counted by callers of real containers."""

import gzip
import json
import os
import signal
from typing import Any

import pytest
from containers.waiting import wait_for
from rendered import module

from nodes.cluster import TESTS, Cluster
from nodes.conftest import BUCKET, EVENTS
from nodes.delivering import BASE, PATIENCE, Site, said_until, workers
from nodes.layout import OUTSIDE

pytestmark = pytest.mark.nodes

CALLERS = 8
GOOD_SIDECAR = "command: [python, -m, mlplatform.ghost.keep_shipping]"
GOOD_ARGUMENTS, BAD_ARGUMENTS = 'args: ["/events"]', 'args: ["/events", "--unknown"]'
BAD_SIDECAR = 'command: [python, -c, "import time; time.sleep(5); raise SystemExit(3)"]'
RULES = module(TESTS / "delivery" / "rights.py").RULES
# Scales up at a load that two cores can make, and down within seconds instead of five minutes.
SCALES_SOON: dict[str, Any] = {
    "spec": {
        "maxReplicas": 4,
        "metrics": [
            {
                "type": "ContainerResource",
                "containerResource": {
                    "name": "cpu",
                    "container": "serving",
                    "target": {"type": "Utilization", "averageUtilization": 20},
                },
            }
        ],
        "behavior": {
            "scaleDown": {
                "stabilizationWindowSeconds": 15,
                "policies": [{"type": "Pods", "value": 2, "periodSeconds": 15}],
            }
        },
    }
}


def node_of(pod: dict[str, Any]) -> str:
    return str(pod["spec"]["nodeName"])


def names(live: Site) -> list[str]:
    return [str(pod["metadata"]["name"]) for pod in live.pods()]


def test_pods_run_restricted_on_different_nodes(live: Site) -> None:
    assert len({node_of(pod) for pod in live.pods()}) == 2
    refused = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "refused", "namespace": live.namespace},
        "spec": {"hostNetwork": True, "containers": [{"name": "c", "image": live.image}]},
    }
    with pytest.raises(RuntimeError, match='violates PodSecurity "restricted'):
        live.cluster.apply([refused])


def test_pods_reach_what_the_network_policy_lets_them(live: Site) -> None:
    port = int(live.cluster.registry.rpartition(":")[2])
    assert reaches(live, 443)
    assert not reaches(live, port)


def reaches(live: Site, port: int) -> bool:
    """Whether a server can connect to a port of this machine, at which something listens."""
    tried = f"""
import socket
try:
    socket.create_connection(("{OUTSIDE}", {port}), 3)
    print("reached")
except OSError as error:
    print(error)
"""
    said = live.kubectl("exec", names(live)[0], "--container=serving", "--", "python", "-c", tried)
    return said.strip() == "reached"


def test_the_events_of_every_pod_reach_the_store(live: Site, store: Any) -> None:
    with live.asked(CALLERS):
        wait_for(lambda: shippers(store) >= set(names(live)), PATIENCE, lambda: f"events of {shippers(store)}")


def shippers(store: Any) -> set[str]:
    """Names of the pods whose events are in the store."""
    keys = [entry["Key"] for entry in store.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
    packed = [store.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys]
    return {str(json.loads(gzip.decompress(lines).splitlines()[0])["host"]) for lines in packed}


def test_pods_take_another_share_of_copies_for_a_ghost_without_a_rollout(live: Site) -> None:
    before = names(live)
    live.delivery("ghost", "sample-rate", "0.5")
    try:
        wait_for(lambda: [share(live, pod) for pod in before] == ["0.5", "0.5"], PATIENCE)
        assert names(live) == before
    finally:
        live.kubectl("delete", "configmap", f"{live.name}-ghost-sample-rate")


def share(live: Site, pod: str) -> str:
    """The share of copies as a pod has it."""
    return live.kubectl("exec", pod, "--container=serving", "--", "sh", "-c", "cat /ghost/sample-rate || true").strip()


def test_the_process_that_ships_events_may_be_killed_in_every_pod(live: Site) -> None:
    # A pod that counts as unready keeps the connections that it has, and gets no new ones.
    with live.asked(CALLERS, kept=False) as load:
        for _ in range(3):
            for pod in live.pods():
                live.kill(pod, "ship-events")
            load.until(200)
        assert len(live.pods()) == 2
    assert load.lost == []


def taken_back(live: Site, good: str, bad: str) -> str:
    """The output of a deploy with a bad sidecar: it fails and is taken back, and callers lose no request by it."""
    live.change(EVENTS, good, bad)
    try:
        with live.asked(CALLERS, kept=False) as load:
            said = live.deploy(code=1)
    finally:
        live.change(EVENTS, bad, good)
    assert load.lost == []
    assert "rolled back: production runs" in said
    return said


def test_a_sidecar_that_crashes_is_taken_back_while_the_good_pods_answer(live: Site) -> None:
    before = names(live)
    said = taken_back(live, GOOD_SIDECAR, BAD_SIDECAR)
    assert "container events is in CrashLoopBackOff" in said
    live.wait_for_pods(2)
    assert names(live) == before


def test_a_release_whose_events_are_not_shipped_is_taken_back_without_a_lost_request(live: Site) -> None:
    assert "container events does not keep running" in taken_back(live, GOOD_ARGUMENTS, BAD_ARGUMENTS)


def test_a_worker_that_is_killed_costs_no_more_than_the_requests_in_flight(live: Site) -> None:
    pod = live.pods()[0]
    (worker,) = workers(pod)
    with live.asked(CALLERS) as load:
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: workers(pod) not in ([], [worker]), PATIENCE)
        load.until(500)
    assert len(load.lost) <= CALLERS, load.lost
    live.wait_for_pods(2)


def test_a_node_is_drained_without_a_lost_request(live: Site) -> None:
    node = node_of(live.pods()[0])
    with live.asked(CALLERS) as load:
        try:
            live.kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={PATIENCE}s")
            live.wait_for_pods(2)
            load.until(200)
        finally:
            live.kubectl("uncordon", node)
    assert load.lost == []
    assert node not in map(node_of, live.pods())


def test_two_releases_and_two_rollbacks_lose_no_request(live: Site) -> None:
    began = live.running_finish_seconds()
    with live.asked(CALLERS) as load:
        for seconds in (began - 1, began - 2):
            live.finish_seconds(seconds)
            live.deploy()
        for seconds in (began - 1, began):
            live.delivery("rollback", "--environment", "production", "--yes")
            assert live.running_finish_seconds() == seconds
    assert load.lost == []
    live.finish_seconds(began)


def test_what_a_user_may_not_patch_changes_nothing(live: Site, cluster: Cluster) -> None:
    kinds = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "ci", "namespace": live.namespace}}
    subject = {"kind": "User", "name": "ci", "apiGroup": "rbac.authorization.k8s.io"}
    reference = {"kind": "Role", "name": "ci", "apiGroup": "rbac.authorization.k8s.io"}
    cluster.apply(
        [
            {**kinds, "kind": "Role", "rules": RULES},
            {**kinds, "kind": "RoleBinding", "subjects": [subject], "roleRef": reference},
        ]
    )
    before, began = names(live), live.running_finish_seconds()
    live.finish_seconds(began - 3)
    live.change(BASE / "networkpolicy.yaml", "- port: 8125", "- port: 8225")
    try:
        with live.asked(CALLERS) as load:
            said = live.of_user("ci").deploy(code=1)
    finally:
        live.change(BASE / "networkpolicy.yaml", "- port: 8225", "- port: 8125")
        live.finish_seconds(began)
    assert "and nothing was changed: the cluster refuses it: networkpolicies.networking.k8s.io" in said
    assert (names(live), live.running_finish_seconds(), load.lost) == (before, began, [])


def test_the_api_server_may_be_away_during_a_deploy(live: Site) -> None:
    began = live.running_finish_seconds()
    live.finish_seconds(began - 4)
    with live.asked(CALLERS) as load:
        deploy = live.start("deploy", "--environment", "production", "--image", live.image)
        wait_for(lambda: live.running_finish_seconds() == began - 4, PATIENCE)
        with live.cluster.without("apiserver"):
            said = said_until(deploy, "the cluster does not answer")
            # Longer than a retry or two, shorter than what makes the cluster give its nodes up.
            load.until(3000, PATIENCE)
        said += said_until(deploy)
    assert deploy.wait() == 0, said
    assert said.count("the cluster does not answer") == 1
    assert "the cluster answers again" in said
    assert load.lost == []
    live.delivery("rollback", "--environment", "production", "--yes")
    live.finish_seconds(began)


def test_the_service_grows_and_shrinks_with_its_callers(live: Site) -> None:
    live.grow(SCALES_SOON)
    try:
        with live.asked(24, pause=0.005) as load:
            live.wait_for_pods(4)
            # Callers whose connections stay where they are would leave new pods idle.
            wait_for(lambda: alike(live.usage(), 4), PATIENCE, lambda: str(live.usage()))
        with live.asked(1, pause=0.5) as few:
            live.wait_for_pods(2)
    finally:
        live.deploy()
    assert load.lost == []
    assert few.lost == []


def alike(shares: list[int], count: int) -> bool:
    """Whether so many pods have work, and none has much more than another."""
    return len(shares) == count and min(shares) > max(shares) / 3
