"""Stands in for kubectl and the cluster behind it: `kustomize` is the real one's, Deployments are kept in a file.

A pod template becomes a ReplicaSet, as in a cluster, and its pods do what $STAND_IN/behaviour.json says of its image:
{"<digest>": "crash" | "pending" | "quota" | "wrong" | "ok"}; "wrong" runs and serves another model, "quota" gets no
pod. Names are those of real answers of a cluster, as far as delivery reads them.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PLACE = Path(os.environ["STAND_IN"])
STATE = PLACE / "cluster.json"
REVISION = "deployment.kubernetes.io/revision"
VERSION = "tags.datadoghq.com/version"


def load() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(STATE.read_text()) if STATE.exists() else {"deployments": {}, "sets": {}}
    return found


def save(state: dict[str, Any]) -> None:
    STATE.write_text(json.dumps(state, indent=1))


def behaviour(template: dict[str, Any]) -> str:
    kept = PLACE / "behaviour.json"
    known = json.loads(kept.read_text()) if kept.exists() else {}
    return str(known.get(template["spec"]["containers"][0]["image"].rpartition("@")[2], "ok"))


def kustomize(directory: str) -> str:
    return subprocess.run(
        [os.environ["REAL_KUBECTL"], "kustomize", directory], stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def apply(directory: str) -> None:
    if (PLACE / "no-namespace").exists():
        print('Error from server (NotFound): namespaces "models" not found', file=sys.stderr)
        sys.exit(1)
    # Imported where they are used: most calls are `get`, and a test makes dozens.
    import yaml

    state = load()
    for found in yaml.safe_load_all(kustomize(directory)):
        name = found["metadata"]["name"]
        if found["kind"] == "Deployment":
            roll(state, name, found["spec"]["template"], found)
        print(f"{found['kind'].lower()}/{name} configured")
    save(state)


def roll(state: dict[str, Any], name: str, template: dict[str, Any], found: dict[str, Any]) -> None:
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
    sets = state["sets"].setdefault(name, {})
    number = max([each["revision"] for each in sets.values()], default=0) + 1
    if state["deployments"].get(name, {}).get("set") != digest:
        sets[digest] = {"template": template, "revision": number}
    state["deployments"][name] = {"found": found, "set": digest, "template": template}


def deployment(state: dict[str, Any], name: str) -> dict[str, Any]:
    kept = state["deployments"][name]
    runs = behaviour(kept["template"]) in ("ok", "wrong")
    replicas = 2
    status: dict[str, Any] = {"observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas}
    status |= {"readyReplicas": replicas, "availableReplicas": replicas} if runs else {"readyReplicas": 0}
    if behaviour(kept["template"]) == "quota":
        failure = {"type": "ReplicaFailure", "status": "True", "message": "pods are forbidden: exceeded quota: small"}
        status |= {"replicas": 0, "updatedReplicas": 0, "conditions": [failure]}
    revision = str(state["sets"][name][kept["set"]]["revision"])
    return {
        "metadata": {"name": name, "generation": 1, "annotations": {REVISION: revision}},
        "spec": {"replicas": replicas, "template": kept["template"]},
        "status": status,
    }


def replica_sets(state: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [
        {
            "metadata": {"name": f"{name}-{digest}", "annotations": {REVISION: str(each["revision"])}},
            "spec": {"template": each["template"]},
        }
        for digest, each in state["sets"].get(name, {}).items()
    ]


def pods(state: dict[str, Any], name: str) -> list[dict[str, Any]]:
    kept = state["deployments"].get(name)
    if kept is None or behaviour(kept["template"]) == "quota":
        return []
    metadata = {"name": f"{name}-{kept['set']}-x7k2p", "ownerReferences": [{"name": f"{name}-{kept['set']}"}]}
    container: dict[str, Any] = {"name": "serving", "ready": True, "restartCount": 0, "state": {"running": {}}}
    phase, conditions = "Running", []
    if behaviour(kept["template"]) == "crash":
        waiting = {"reason": "CrashLoopBackOff", "message": "back-off 20s restarting failed container=serving"}
        ended = {"exitCode": 1, "reason": "Error"}
        container |= {"ready": False, "restartCount": 2, "state": {"waiting": waiting}}
        container["lastState"] = {"terminated": ended}
    if behaviour(kept["template"]) == "pending":
        phase, container = "Pending", {}
        conditions = [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes: 3 Insufficient cpu."}]
    states = [container] if container else []
    return [{"metadata": metadata, "status": {"phase": phase, "containerStatuses": states, "conditions": conditions}}]


def get(arguments: list[str]) -> None:
    state, kind = load(), arguments[0]
    selector = next((a.partition("instance=")[2] for a in arguments if a.startswith("--selector=")), "")
    if kind == "namespace":
        print("" if (PLACE / "no-namespace").exists() else "{}")
    elif kind == "events":
        event = {"reason": "BackOff", "message": "Back-off restarting failed container serving"}
        print(json.dumps({"items": [event]}))
    else:
        found = [{"kind": "Deployment", **deployment(state, selector)}] if selector in state["deployments"] else []
        found += [{"kind": "ReplicaSet", **each} for each in replica_sets(state, selector)]
        found += [{"kind": "Pod", **each} for each in pods(state, selector)]
        # As the real one with --ignore-not-found.
        print(json.dumps({"items": found}) if found else "")


def delete(arguments: list[str]) -> None:
    """One by its name, or all with the label of an environment; of those the Deployment and what depends on it."""
    state = load()
    selector = next((a.partition("instance=")[2] for a in arguments if a.startswith("--selector=")), "")
    name = selector or arguments[1]
    if state["deployments"].pop(name, None):
        print(f"deployment.apps/{name}")
    if selector:
        state["sets"].pop(name, None)
    save(state)


def undo(arguments: list[str]) -> None:
    state, name = load(), arguments[1].removeprefix("deployment/")
    wanted = next(a.partition("=")[2] for a in arguments if a.startswith("--to-revision="))
    (digest,) = [key for key, each in state["sets"][name].items() if str(each["revision"]) == wanted]
    sets = state["sets"][name]
    sets[digest]["revision"] = max(each["revision"] for each in sets.values()) + 1
    state["deployments"][name] |= {"set": digest, "template": sets[digest]["template"]}
    save(state)


def port_forward(target: str) -> None:
    """Answer for the model that the version label names."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    template = load()["deployments"][target.removeprefix("service/")]["template"]

    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            version = template["metadata"]["labels"][VERSION].partition("-")[0]
            self._answer({"versions": ["another" if behaviour(template) == "wrong" else version]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            ghost = template["metadata"]["labels"].get("role") == "ghost"
            self._answer({"predictions": [[0.5, 0.5] for _ in body["instances"]]}, 202 if ghost else 200)

        def _answer(self, value: Any, status: int = 200) -> None:
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    print(f"Forwarding from 127.0.0.1:{server.server_address[1]} -> 8080", flush=True)
    server.serve_forever()


def main(arguments: list[str]) -> None:
    with (PLACE / "kubectl.log").open("a") as log:
        log.write(" ".join(arguments) + "\n")
    # By command, how often it gets no answer.
    unanswered = PLACE / "unanswered.json"
    known = json.loads(unanswered.read_text()) if unanswered.exists() else {}
    if known.get(arguments[0]):
        unanswered.write_text(json.dumps({**known, arguments[0]: known[arguments[0]] - 1}))
        print("Unable to connect to the server: net/http: TLS handshake timeout", file=sys.stderr)
        sys.exit(1)
    match arguments[0]:
        case "kustomize":
            print(kustomize(arguments[1]))
        case "apply" if arguments[1] == "--filename=-":
            found = json.load(sys.stdin)
            save(load() | {found["metadata"]["name"]: found})
        case "apply":
            apply(arguments[2])
        case "get":
            get(arguments[1:])
        case "rollout":
            undo(arguments[1:])
        case "delete":
            delete(arguments[1:])
        case "logs":
            print("serving: the model in /model cannot be loaded\nserving: stopped")
        case "port-forward":
            port_forward(arguments[1])
        case "config":
            print("stand-in")
        case "auth":
            refused = PLACE / "refused"
            sys.exit(1 if refused.exists() and arguments[3] in refused.read_text().split() else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
