"""A node of a control plane that has none: pods are said to run, or not, as a real kubelet says it, without containers.

`python -m mlplatform.tests.delivery.kubelet URL TOKEN DIRECTORY`: the node is called `node`. What pods do is read from
DIRECTORY/behaviour.json, by the digest of their image: "crash", "sidecar" (one that crashes), else they run.
"""

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
import urllib3

NODE = "node"
STATUS = {"Content-Type": "application/merge-patch+json"}


class Api:
    """The API server, as far as a kubelet needs it."""

    def __init__(self, url: str, token: str) -> None:
        # The certificate of a control plane for tests is its own.
        urllib3.disable_warnings()
        self.url = url
        self.session = requests.Session()
        self.session.verify = False
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {token}"

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The JSON of an answer; raises requests.HTTPError."""
        answer = self.session.request(method, f"{self.url}{path}", json=body, headers=headers or None, timeout=10)
        answer.raise_for_status()
        return answer.json()


def main(url: str, token: str, directory: str) -> None:
    """Until it is killed."""
    api, beaten = Api(url, token), 0.0
    while True:
        try:
            if time.monotonic() - beaten > 5:
                register(api)
                beaten = time.monotonic()
            pods = api.ask("GET", f"/api/v1/pods?fieldSelector=spec.nodeName={NODE}")["items"]
            for pod in pods:
                tend(api, pod, Path(directory))
        except requests.RequestException:
            # The API server is down, or the pod is gone: as a kubelet, try again.
            pass
        time.sleep(0.2)


def register(api: Api) -> None:
    """Say that there is a node and that it is well."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
    answer = api.session.post(f"{api.url}/api/v1/nodes", json=node, timeout=10)
    if answer.status_code not in (201, 409):
        answer.raise_for_status()
    resources = {"cpu": "64", "memory": "256Gi", "pods": "110"}
    condition = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now}
    status = {"capacity": resources, "allocatable": resources, "conditions": [condition | {"lastTransitionTime": now}]}
    api.session.patch(f"{api.url}/api/v1/nodes/{NODE}/status", json={"status": status}, headers=STATUS, timeout=10)


def tend(api: Api, pod: dict[str, Any], directory: Path) -> None:
    """Bring a pod one step further."""
    path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
    if pod["metadata"].get("deletionTimestamp"):
        api.ask("DELETE", path, {"gracePeriodSeconds": 0})
        return
    kept = directory / "behaviour.json"
    known = json.loads(kept.read_text()) if kept.exists() else {}
    how = known.get(pod["spec"]["containers"][0]["image"].rpartition("@")[2], "ok")
    status = wanted(pod, how)
    if pod.get("status", {}).get("phase") != status["phase"] or "containerStatuses" not in pod["status"]:
        api.session.patch(f"{api.url}{path}/status", json={"status": status}, headers=STATUS, timeout=10)


def wanted(pod: dict[str, Any], how: str) -> dict[str, Any]:
    """The status of a pod that does as it was told."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    runs = {"ready": True, "started": True, "restartCount": 0, "state": {"running": {"startedAt": now}}}
    ended = {"exitCode": 1, "reason": "Error", "startedAt": now, "finishedAt": now}
    crashed = {
        "ready": False,
        "started": False,
        "restartCount": 2,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s restarting failed container"}},
        "lastState": {"terminated": ended},
    }
    waits = {"ready": False, "started": False, "restartCount": 0, "state": {"waiting": {"reason": "PodInitializing"}}}
    server, sidecar = {"crash": (crashed, runs), "sidecar": (waits, crashed)}.get(how, (runs, runs))
    ready = "True" if how == "ok" else "False"
    conditions = [
        {"type": kind, "status": ready, "lastTransitionTime": now}
        for kind in ("Ready", "ContainersReady", "Initialized")
    ]

    def states(containers: list[dict[str, Any]], state: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {"name": each["name"], "image": each["image"], "imageID": each["image"], **state} for each in containers
        ]

    return {
        "phase": "Pending" if how == "sidecar" else "Running",
        "conditions": conditions,
        "startTime": now,
        "containerStatuses": states(pod["spec"]["containers"], server),
        "initContainerStatuses": states(pod["spec"].get("initContainers", []), sidecar),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
