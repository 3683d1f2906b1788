"""The programs of a cluster of Kubernetes, for the tests that release against one.

API server, controllers, scheduler, and what nodes need, are one program, `kube`, built by Go of the module
k8s.io/kubernetes (kube/go.mod has its version), with metrics-server and kube-router's enforcer of network policies;
`pause` is the first process of a pod; etcd is Debian's. The build takes a quarter of an hour of two cores, once for
each content of kube/; what is kept is the program, not Go's cache.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from engine import PLACE

SOURCE = Path(__file__).with_name("kube")
# What `kubectl version` says; the linker sets it, as Kubernetes' own build does.
VERSION = "k8s.io/component-base/version"


class KubeError(Exception):
    """The programs cannot be had here; the message says what is missing."""


def programs() -> Path:
    """Directory with `kube`, `pause` and `etcd`, made if need be. Raises KubeError."""
    sources = sorted(path for path in SOURCE.rglob("*") if path.is_file())
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    place = PLACE / f"kube-{digest}"
    if not place.is_dir():
        go = shutil.which("go")
        if not go:
            raise KubeError("Go is needed to build Kubernetes, and there is none on PATH: https://go.dev/doc/install")
        PLACE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=PLACE) as temporary:
            made = Path(temporary) / "programs"
            made.mkdir()
            _find_etcd(Path(temporary), made / "etcd")
            _build(go, made / "kube")
            made.rename(place)
    return place


def _find_etcd(temporary: Path, target: Path) -> None:
    """etcd of this machine, or else of Debian's package, which is unpacked and not installed."""
    there = shutil.which("etcd")
    if there:
        target.symlink_to(there)
        return
    if not shutil.which("apt-get"):
        raise KubeError("etcd is needed, and there is none on PATH: https://etcd.io/docs/latest/install")
    _run(temporary, "apt-get", "download", "-qq", "etcd-server")
    (package,) = temporary.glob("etcd-server_*.deb")
    _run(temporary, "dpkg-deb", "--extract", str(package), "etcd-server")
    shutil.copy2(temporary / "etcd-server" / "usr" / "bin" / "etcd", target)


def _build(go: str, target: Path) -> None:
    version = _run(SOURCE, go, "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes").strip()
    major, minor, _ = version.removeprefix("v").split(".")
    named = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    flags = " ".join(["-s", "-w", *(f"-X {VERSION}.{name}={value}" for name, value in named.items())])
    _run(SOURCE, go, "build", "-trimpath", "-ldflags", flags, "-o", str(target), ".")
    _run(SOURCE, go, "build", "-trimpath", "-ldflags", "-s -w", "-o", str(target.with_name("pause")), "./pause")


def _run(directory: Path, *command: str) -> str:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise KubeError(f"{' '.join(command[:3])} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    try:
        print(programs())
    except KubeError as error:
        sys.exit(str(error))
