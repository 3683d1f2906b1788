"""Runs on an agent without an engine: bundles model VERSION for two commits, and prints the images' configurations.

Usage: bundle_twice.py VERSION BASE_IMAGE_ARCHIVE. Each image comes with the list of its packages, by `sbom`.
"""

import json
import os
import subprocess
import sys
from typing import Any

from mlplatform.delivery.images.registry import Image
from mlplatform.tests.registry import Registry


def delivery(*arguments: str) -> str:
    """The result of a command; it shows its progress on standard error."""
    command = [sys.executable, "-m", "mlplatform", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def configuration(registry: Registry, reference: str) -> dict[str, Any]:
    """The configuration of an image, as the registry has it."""
    image = Image.parse(reference)
    assert image is not None, reference
    manifest = json.loads(registry.manifests[image.repository, image.digest][1])
    found: dict[str, Any] = json.loads(registry.blob(manifest["config"]["digest"]).read_bytes())
    return {**found["config"], "layers": len(manifest["layers"])}


def main(version: str, base_image: str) -> None:
    """Print a JSON array of two objects."""
    pulled = ["buildah", "pull", "--quiet", f"docker-archive:{base_image}"]
    base = subprocess.run(pulled, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    subprocess.run(["buildah", "tag", base, "localhost/base:1"], check=True)
    with Registry().running() as registry:
        os.environ |= {
            "DELIVERY_BASE_IMAGE": "localhost/base:1",
            "DELIVERY_BUILDER": "buildah",
            "DELIVERY_CONTAINER_REGISTRY": f"{registry.host}/team",
            "DELIVERY_STORAGE_URL": "store",
        }
        found = []
        for commit in ("0123abc", "4567def"):
            os.environ["GIT_COMMIT"] = commit
            reference = delivery("bundle", version, "--force")
            packages = json.loads(delivery("sbom", reference))["components"]
            found.append({**configuration(registry, reference), "packages": [part["name"] for part in packages]})
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
