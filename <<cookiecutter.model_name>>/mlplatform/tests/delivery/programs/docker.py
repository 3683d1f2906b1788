"""Stands in for docker where none is: `build` keeps the context, `push` sends an image with its labels to the registry.

It logs in as docker does, by the helper that $DOCKER_CONFIG names. $STAND_IN: directory of what it keeps.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

PLACE = Path(os.environ["STAND_IN"])
MEMORY = "/measured/memory-bytes"
LABELS = {
    "REVISION": "org.opencontainers.image.revision",
    "VERSION": "org.opencontainers.image.version",
    "SOURCE": "org.opencontainers.image.source",
    "TEMPLATE_VERSION": "ml-service-template.version",
    "MEMORY_BYTES": "ml-service-template.memory-bytes",
}


def build(arguments: list[str]) -> None:
    """Copy the context and write down the options, under the tag."""
    options = dict(zip(arguments[:-1:2], arguments[1:-1:2], strict=False))
    given = dict(a.removeprefix("--build-arg=").partition("=")[::2] for a in arguments if a.startswith("--build-arg="))
    if (PLACE / "fail").exists():
        print("ERROR: failed to solve: no such package")
        sys.exit(1)
    kept = PLACE / "built" / re.sub(r"\W", "_", options["--tag"])
    # An image that is built once more, with another label, gets the same content.
    shutil.copytree(arguments[-1], kept / "context", dirs_exist_ok=True)
    shutil.copy(options["--file"], kept / "Dockerfile")
    (kept / "arguments.json").write_text(json.dumps(given))


def push(name: str) -> None:
    """Send config and manifest, as an image without layers."""
    host, _, rest = name.partition("/")
    repository, _, tag = rest.rpartition(":")
    kept = PLACE / "built" / re.sub(r"\W", "_", name)
    given = json.loads((kept / "arguments.json").read_text())
    labels = {label: given.get(name, "") for name, label in LABELS.items()}
    content = json.dumps({"config": {"Labels": labels}, "os": "linux", "context": _digests(kept / "context")}).encode()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    # The host of the registry may be a name that this machine does not resolve.
    base = f"http://{os.environ.get('STAND_IN_REGISTRY', host)}/v2/{repository}"
    headers = _login(host)
    place = _send("POST", f"{base}/blobs/uploads/", headers, b"")
    _send("PUT", f"{base.partition('/v2')[0]}{place}?digest={digest}", headers, content)
    manifest = {
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": len(content)},
        "layers": [],
    }
    kind = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}
    _send("PUT", f"{base}/manifests/{tag}", headers | kind, json.dumps(manifest).encode())


def _digests(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def _login(host: str) -> dict[str, str]:
    config = Path(os.environ.get("DOCKER_CONFIG", Path.home() / ".docker")) / "config.json"
    helper = json.loads(config.read_text()).get("credHelpers", {}).get(host) if config.exists() else None
    if not helper:
        return {}
    done = subprocess.run([f"docker-credential-{helper}", "get"], input=host, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout)
    secret = base64.b64encode(f"{found['Username']}:{found['Secret']}".encode()).decode()
    return {"Authorization": f"Basic {secret}"}


def _send(method: str, url: str, headers: dict[str, str], body: bytes) -> str:
    request = urllib.request.Request(url, body, headers, method=method)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return str(answer.headers.get("Location", ""))
    except urllib.error.HTTPError as error:
        print(f"{error.code}: no basic auth credentials" if error.code == 401 else f"{error.code}")
        sys.exit(1)


def main() -> None:
    with (PLACE / "docker.log").open("a") as log:
        log.write(" ".join(sys.argv[1:]) + "\n")
    {
        "build": lambda: build(sys.argv[2:]),
        "push": lambda: push(sys.argv[2]),
        "version": lambda: print("29.0.0"),
        # The two files that are read out of an image.
        "run": lambda: print("300000000" if sys.argv[-1] == MEMORY else (PLACE / "sbom.cdx.json").read_text()),
    }[sys.argv[1]]()


if __name__ == "__main__":
    main()
