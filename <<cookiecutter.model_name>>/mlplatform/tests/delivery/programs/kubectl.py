"""Stands in for kubectl and the cluster behind it: `kustomize` and --local are the real one's, objects lie in a file.

A pod template becomes a ReplicaSet, as in a cluster, and its pods do what $STAND_IN/behaviour.json says of its image:
{"<digest>": "crash" | "sidecar" | "pending" | "quota" | "wrong" | "late" | "ok"}; "sidecar" has one that crashes,
"wrong" runs and serves another model, "quota" gets no pod, "late" gets its settings once it was looked at.
$STAND_IN/forbidden.json says which kinds this user may not change: {"<kind>": "always" | "not in a dry run"}. Names are
those of real answers of a cluster, as far as delivery reads them.
"""

import json
import os
import sys
import time
import zlib
from pathlib import Path
from typing import Any, NoReturn

PLACE = Path(os.environ["STAND_IN"])
STATE = PLACE / "cluster.json"
SETTINGS_CAME = PLACE / "settings-came"
REVISION = "deployment.kubernetes.io/revision"
VERSION = "tags.datadoghq.com/version"


def load() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(STATE.read_text()) if STATE.exists() else {"objects": {}, "sets": {}}
    return found


def save(state: dict[str, Any]) -> None:
    # Whole or not at all, as the store of a cluster has it: this program is killed in tests.
    beside = STATE.with_suffix(f".{os.getpid()}")
    beside.write_text(json.dumps(state, indent=1))
    beside.replace(STATE)


def kept(name: str) -> Any:
    """What a test has laid down in a file of this name; an empty object if nothing."""
    path = PLACE / name
    return json.loads(path.read_text()) if path.exists() else {}


def behaviour(template: dict[str, Any]) -> str:
    known = kept("behaviour.json")
    return str(known.get(template["spec"]["containers"][0]["image"].rpartition("@")[2], "ok"))


def real(arguments: list[str]) -> NoReturn:
    """Become the real one, for what needs no cluster."""
    program = os.environ["REAL_KUBECTL"]
    os.execv(program, [program, *arguments])


def given() -> list[dict[str, Any]]:
    """The objects on standard input."""
    text = sys.stdin.read()
    if text.startswith("{"):
        found = json.loads(text)
        return found["items"] if found["kind"] == "List" else [found]
    # Imported where they are used: most calls are `get`, and a test makes dozens. For the same reason this program was
    # started without the packages.
    import site

    site.main()
    import yaml

    return list(yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def key(found: dict[str, Any]) -> str:
    return f"{found['kind']}/{found['metadata']['name']}"


def refusal(found: dict[str, Any], verb: str) -> str:
    """What the real one says where a user may not change an object."""
    kind, name = found["kind"].lower(), found["metadata"]["name"]
    resource = f"{kind.removesuffix('y')}ies" if kind.endswith("y") else f"{kind}s"
    group = found["apiVersion"].rpartition("/")[0]
    return (
        f'Error from server (Forbidden): error when applying patch:\n{{"spec":{{"long":"{"x" * 2000}"}}}}\nto:\n'
        f'Resource: "{group}/v1, Resource={resource}", GroupVersionKind: "{group}/v1, Kind={found["kind"]}"\n'
        f'Name: "{name}", Namespace: "models"\nfor: "STDIN": error when patching "STDIN": '
        f'{resource}.{group} "{name}" is forbidden: User "ci" cannot {verb} resource "{resource}" in API group '
        f'"{group}" in the namespace "models"'
    )


def apply(arguments: list[str]) -> None:
    if (PLACE / "no-namespace").exists():
        print(
            'Error from server (NotFound): error when creating "STDIN": namespaces "models" not found', file=sys.stderr
        )
        sys.exit(1)
    dry, forbidden, state, refused = "--dry-run=server" in arguments, kept("forbidden.json"), load(), []
    objects = given()
    for found in objects:
        if forbidden.get(found["kind"]) == "always" or (found["kind"] in forbidden and not dry):
            refused.append(refusal(found, "patch"))
        elif not dry:
            change(state, found)
            print(f"{found['kind'].lower()}/{found['metadata']['name']} configured")
            save(state)
    if refused:
        print("\n".join(refused), file=sys.stderr)
        sys.exit(1)
    if dry:
        print(json.dumps({"kind": "List", "items": objects}))


def change(state: dict[str, Any], found: dict[str, Any]) -> None:
    state["objects"][key(found)] = found
    if found["kind"] == "Deployment":
        sets = state["sets"].setdefault(found["metadata"]["name"], {})
        digest = digest_of(found)
        newest = max([each["revision"] for each in sets.values()], default=0)
        if digest not in sets or sets[digest]["revision"] != newest:
            sets[digest] = {"template": found["spec"]["template"], "revision": newest + 1}


def digest_of(found: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(found['spec']['template'], sort_keys=True).encode()):010x}"


def patch(arguments: list[str]) -> None:
    (target,) = given()
    state, wanted = load(), json.loads(next(a.partition("=")[2] for a in arguments if a.startswith("--patch=")))
    if target["kind"] in kept("forbidden.json"):
        print(refusal(target, "patch"), file=sys.stderr)
        sys.exit(1)
    change(state, merged(state["objects"][key(target)], wanted))
    save(state)


def merged(now: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """RFC 7386."""
    result = {name: value for name, value in now.items() if wanted.get(name, "") is not None}
    for name, value in wanted.items():
        if isinstance(value, dict):
            inner = result.get(name)
            result[name] = merged(inner if isinstance(inner, dict) else {}, value)
        elif value is not None:
            result[name] = value
    return result


def deployment(state: dict[str, Any], name: str) -> dict[str, Any]:
    found = state["objects"][f"Deployment/{name}"]
    template = found["spec"]["template"]
    runs = behaviour(template) in ("ok", "wrong") or SETTINGS_CAME.exists()
    replicas = 2
    status: dict[str, Any] = {"observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas}
    status |= {"readyReplicas": replicas, "availableReplicas": replicas} if runs else {"readyReplicas": 0}
    if behaviour(template) == "quota":
        failure = {"type": "ReplicaFailure", "status": "True", "message": "pods are forbidden: exceeded quota: small"}
        status |= {"replicas": 0, "updatedReplicas": 0, "conditions": [failure]}
    revision = str(state["sets"][name][digest_of(found)]["revision"])
    metadata = {**found["metadata"], "generation": 1}
    metadata["annotations"] = {**metadata.get("annotations", {}), REVISION: revision}
    return {**found, "metadata": metadata, "spec": {**found["spec"], "replicas": replicas}, "status": status}


def replica_sets(state: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [
        {
            "kind": "ReplicaSet",
            "metadata": {"name": f"{name}-{digest}", "annotations": {REVISION: str(each["revision"])}},
            "spec": {"template": each["template"]},
        }
        for digest, each in state["sets"].get(name, {}).items()
    ]


def pods(state: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = state["objects"].get(f"Deployment/{name}")
    if found is None or behaviour(found["spec"]["template"]) == "quota":
        return []
    how, owner = behaviour(found["spec"]["template"]), f"{name}-{digest_of(found)}"
    metadata = {"name": f"{owner}-x7k2p", "ownerReferences": [{"name": owner}]}
    container: dict[str, Any] = {"name": "serving", "ready": True, "restartCount": 0, "state": {"running": {}}}
    status: dict[str, Any] = {"phase": "Running"}
    if how == "crash":
        status["containerStatuses"] = [container | crashed("serving")]
    elif how == "sidecar":
        # The server is not started before its sidecar has been.
        waiting = {"ready": False, "state": {"waiting": {"reason": "PodInitializing"}}}
        status |= {"phase": "Pending", "initContainerStatuses": [{"name": "events"} | crashed("events")]}
        status["containerStatuses"] = [container | waiting]
    elif how == "late" and not SETTINGS_CAME.exists():
        waiting = {"reason": "CreateContainerConfigError", "message": "failed to sync configmap cache: timed out"}
        status["containerStatuses"] = [container | {"ready": False, "state": {"waiting": waiting}}]
        SETTINGS_CAME.touch()
    elif how == "pending":
        status["phase"] = "Pending"
        message = "0/3 nodes: 3 Insufficient cpu."
        status["conditions"] = [{"type": "PodScheduled", "status": "False", "message": message}]
    else:
        status["containerStatuses"] = [container]
        status["initContainerStatuses"] = [
            {"name": each["name"], "ready": True, "restartCount": 0, "state": {"running": {}}}
            for each in found["spec"]["template"]["spec"].get("initContainers", [])
        ]
    return [{"kind": "Pod", "metadata": metadata, "status": status}]


def crashed(name: str) -> dict[str, Any]:
    waiting = {"reason": "CrashLoopBackOff", "message": f"back-off 20s restarting failed container={name}"}
    ended = {"exitCode": 1, "reason": "Error"}
    return {
        "ready": False,
        "restartCount": 2,
        "state": {"waiting": waiting},
        "lastState": {"terminated": ended},
    }


def get(arguments: list[str]) -> None:
    state, kind = load(), arguments[0]
    selector = next((a.partition("instance=")[2] for a in arguments if a.startswith("--selector=")), "")
    if kind == "namespace":
        print("" if (PLACE / "no-namespace").exists() else "{}")
    elif kind == "events":
        event = {"reason": "BackOff", "message": "Back-off restarting failed container serving"}
        print(json.dumps({"items": [event]}))
    elif kind == "--filename=-":
        known = [state["objects"][key(each)] for each in given() if key(each) in state["objects"]]
        answer(
            [deployment(state, each["metadata"]["name"]) if each["kind"] == "Deployment" else each for each in known]
        )
    else:
        deployed = [deployment(state, selector)] if f"Deployment/{selector}" in state["objects"] else []
        answer([*deployed, *replica_sets(state, selector), *pods(state, selector)])


def answer(found: list[dict[str, Any]]) -> None:
    """As the real one with --ignore-not-found."""
    print(json.dumps({"items": found}) if found else "")


def delete(arguments: list[str]) -> None:
    """Those on standard input, or all with the label of an environment."""
    state = load()
    selector = next((a.partition("instance=")[2] for a in arguments if a.startswith("--selector=")), "")
    if selector:
        label = "app.kubernetes.io/instance"
        found = [e for e in state["objects"].values() if e["metadata"].get("labels", {}).get(label) == selector]
    else:
        found = given()
    for each in found:
        if state["objects"].pop(key(each), None):
            print(f"{each['kind'].lower()}/{each['metadata']['name']}")
        if each["kind"] == "Deployment":
            state["sets"].pop(each["metadata"]["name"], None)
    save(state)


def port_forward(target: str) -> None:
    """Answer for the model that the version label names."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    template = load()["objects"][f"Deployment/{target.removeprefix('service/')}"]["spec"]["template"]

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


def main() -> None:
    arguments = sys.argv[1:]
    with (PLACE / "kubectl.log").open("a") as log:
        log.write(" ".join(arguments) + "\n")
    # By command, how often it gets no answer.
    unanswered = kept("unanswered.json")
    if unanswered.get(arguments[0]):
        remaining = {**unanswered, arguments[0]: unanswered[arguments[0]] - 1}
        (PLACE / "unanswered.json").write_text(json.dumps(remaining))
        print("Unable to connect to the server: net/http: TLS handshake timeout", file=sys.stderr)
        sys.exit(1)
    # Commands that get no answer at all; what is local asks nobody.
    if arguments[0] in kept("hanging.json") and "--local" not in arguments:
        time.sleep(600)
    match arguments[0]:
        case "kustomize":
            real(arguments)
        case "apply":
            apply(arguments)
        case "get":
            get(arguments[1:])
        case "patch" if "--local" in arguments:
            real(arguments)
        case "patch":
            patch(arguments)
        case "delete":
            delete(arguments[1:])
        case "logs":
            container = next(a.partition("=")[2] for a in arguments if a.startswith("--container="))
            said = f"{container}: the model in /model cannot be loaded\n{container}: stopped"
            # A sidecar that works has said nothing.
            print(kept("sidecar.json").get(container, "" if container == "events" else said))
        case "port-forward":
            port_forward(arguments[1])
        case "config":
            print("stand-in")
        case "auth":
            refused = PLACE / "refused"
            sys.exit(1 if refused.exists() and arguments[3] in refused.read_text().split() else 0)


if __name__ == "__main__":
    main()
