"""A rendered repository that releases into a cluster with real containers."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from containers.waiting import wait_for

from nodes.cluster import CGROUPS, Cluster
from nodes.layout import ADMIN
from nodes.load import Load, asked_steadily

BASE = Path("deploy/k8s/base")
# Long enough for a rollout on a machine that has other things to do.
PATIENCE = 240


@dataclass(frozen=True)
class Site:
    """environment: of delivery's commands; name: of the service; samples: instances that it can be asked for.

    loads: what callers got so far, in order.
    """

    cluster: Cluster
    repository: Path
    namespace: str
    name: str
    image: str
    samples: Sequence[Any]
    environment: dict[str, str]
    loads: list[Load] = field(default_factory=list)

    def command(self, *arguments: str) -> list[str]:
        """A command of delivery."""
        return [str(self.repository / ".nox" / "delivery" / "bin" / "python"), "-m", "mlplatform", *arguments]

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start a command of delivery; what it says is one text."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.repository,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def delivery(self, *arguments: str, code: int = 0) -> str:
        """What a command of delivery says, which ends with this code."""
        process = self.start(*arguments)
        said, _ = process.communicate()
        assert process.returncode == code, said
        return said

    def deploy(self, code: int = 0) -> str:
        """Deploy the image with the manifests as they are to production."""
        return self.delivery("deploy", "--environment", "production", "--image", self.image, code=code)

    def change(self, file: Path, old: str, new: str) -> None:
        """Replace a text in a file of the repository."""
        path = self.repository / file
        content = path.read_text(encoding="utf-8")
        assert old in content, content
        path.write_text(content.replace(old, new), encoding="utf-8")

    def finish_seconds(self, seconds: int) -> None:
        """Set a value that makes other pods, as another image would."""
        path = self.repository / BASE / "kustomization.yaml"
        content = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r"(SERVING_FINISH_SECONDS)=\d+", rf"\1={seconds}", content), encoding="utf-8")

    def running_finish_seconds(self) -> int:
        """That value of the pods that production runs."""
        deployment = self.cluster.get("deployment", self.name, f"--namespace={self.namespace}")
        (source,) = deployment["spec"]["template"]["spec"]["containers"][0]["envFrom"]
        name = source["configMapRef"]["name"]
        settings = self.cluster.get("configmap", name, f"--namespace={self.namespace}")["data"]
        return int(settings["SERVING_FINISH_SECONDS"])

    def kubectl(self, *arguments: str) -> str:
        """What kubectl says in the namespace."""
        return self.cluster.kubectl(f"--namespace={self.namespace}", *arguments)

    def of_user(self, token: str) -> "Site":
        """The same, for a user who may less. token: of the user, without `-token`."""
        kubeconfig = self.repository.with_name(f"{token}.conf")
        kubeconfig.write_text(self.cluster.kubeconfig.read_text().replace(ADMIN, f"{token}-token"))
        return replace(self, environment={**self.environment, "KUBECONFIG": str(kubeconfig)})

    def grow(self, change: dict[str, Any]) -> None:
        """Change the autoscaler until the next deploy."""
        self.kubectl("patch", "horizontalpodautoscaler", self.name, f"--patch={json.dumps(change)}")

    def usage(self) -> list[int]:
        """Thousandths of a core that each server uses, by metrics-server."""
        lines = self.kubectl("top", "pods", "--containers", "--no-headers").splitlines()
        return [int(line.split()[2].removesuffix("m")) for line in lines if line.split()[1] == "serving"]

    def pods(self) -> list[dict[str, Any]]:
        """The pods of production that are ready and not about to end, by name."""
        selector = f"--selector=app.kubernetes.io/instance={self.name}"
        found = self.cluster.get("pods", f"--namespace={self.namespace}", selector)["items"]
        return sorted(filter(is_ready, found), key=lambda pod: str(pod["metadata"]["name"]))

    def wait_for_pods(self, count: int) -> None:
        """Wait until so many pods are ready, and no other is left."""
        selector = f"--selector=app.kubernetes.io/instance={self.name}"

        def there() -> bool:
            everything = self.cluster.get("pods", f"--namespace={self.namespace}", selector)["items"]
            return len(everything) == len(self.pods()) == count

        wait_for(there, PATIENCE, lambda: self.kubectl("get", "pods", "--output=wide"))

    @contextmanager
    def asked(self, callers: int = 8, pause: float = 0.05, *, kept: bool = True) -> Iterator[Load]:
        """Callers of production, by the Service's address. kept: whether their connections stay open."""
        service = self.cluster.get("service", self.name, f"--namespace={self.namespace}")
        body = json.dumps({"instances": list(self.samples)[:1]}).encode()
        address = f"{service['spec']['clusterIP']}:8080"
        with asked_steadily(address, f"/v1/models/{self.name}:predict", body, callers, pause, kept=kept) as load:
            self.loads.append(load)
            load.until(20)
            yield load

    def kill(self, pod: dict[str, Any], having: str) -> None:
        """Kill the processes of a pod with this in their command line, as the kernel does, once there are any."""

        def killed() -> bool:
            found = [number for number, line in processes(pod) if having in line]
            for number in found:
                # Unless it has ended meanwhile.
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            return bool(found)

        wait_for(killed, PATIENCE)


def said_until(process: "subprocess.Popen[str]", words: str = "") -> str:
    """What a command says up to the line with these words, or to its end. Raises AssertionError without such a line."""
    assert process.stdout
    said = ""
    for line in process.stdout:
        said += line
        if words and words in line:
            return said
    assert not words, said
    return said


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether a pod can be asked and is to stay."""
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def processes(pod: dict[str, Any]) -> list[tuple[int, str]]:
    """Number on this machine and command line of each process of a pod, but of one that has just ended."""
    found = []
    hierarchy = CGROUPS if (CGROUPS / "cgroup.controllers").exists() else CGROUPS / "pids"
    numbers: list[int] = []
    # A control group may go while it is looked at, or for.
    with suppress(OSError):
        for place in hierarchy.rglob(f"pod{pod['metadata']['uid']}/*/cgroup.procs"):
            numbers += map(int, place.read_text().split())
    for number in numbers:
        with suppress(OSError):
            line = Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found.append((number, line.strip()))
    return found


def workers(pod: dict[str, Any]) -> list[int]:
    """The server's processes that answer: the children of its container's first one."""
    found = dict(processes(pod))
    return [number for number, line in found.items() if parent(number) in found and "ship" not in line]


def parent(number: int) -> int:
    """Number of the process that started one; 0 if that has ended."""
    with suppress(OSError):
        return int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1])
    return 0
