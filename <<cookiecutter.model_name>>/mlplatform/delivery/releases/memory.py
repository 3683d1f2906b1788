"""The memory of a release's containers: as the model in its image needs it, or as deploy/k8s says, if that will do."""

import json
import re
from collections.abc import Sequence
from typing import Any

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from mlplatform.config.settings import Section, load
from mlplatform.contract.memory import container_bytes
from mlplatform.delivery.errors import RefusedError
from mlplatform.delivery.pods import Object

MIB = 1 << 20
# Of a container whose image does not say what its model takes.
UNMEASURED = "1Gi"
# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_QUANTITY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)([numkKMGTPE]i?)?")
_DECIMAL = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY = {f"{prefix}i": float(1 << (10 * power)) for power, prefix in enumerate("KMGTPE", start=1)}


class _ServerSettings(Section, section="serving"):
    """Of the server's settings, the one that its memory depends on."""

    model_config = SettingsConfigDict(extra="ignore")
    workers: int = Field(default=1, ge=1, le=64)


def patches(planned: Sequence[Object], container: str, peak: int | None) -> list[dict[str, Any]]:
    """Patches for kustomize that give a container the memory its model needs, where deploy/k8s gives it none.

    planned: the objects of the release as deploy/k8s has them; peak: as for check_limit. Request and limit are the
    same: what a container takes at its start it keeps, so a smaller request would only promise nodes too much.
    """
    memory = UNMEASURED if peak is None else f"{_needed(planned, peak)}Mi"
    resources = {kind: {"memory": memory} for kind in ("requests", "limits")}
    spec = {"template": {"spec": {"containers": [{"name": container, "resources": resources}]}}}
    return [
        {
            "target": {"kind": "Deployment", "name": re.escape(deployment["metadata"]["name"])},
            "patch": json.dumps({**_named(deployment), "spec": spec}),
        }
        for deployment, given in _resources(planned, container)
        if not any("memory" in (given.get(kind) or {}) for kind in resources)
    ]


def check_limit(planned: Sequence[Object], container: str, peak: int | None) -> None:
    """Refuse a memory limit that cannot hold the model.

    planned: the objects of the release, as the cluster would have them; peak: bytes that loading the model took while
    its image was built, None for an image that does not say. Raises RefusedError.
    """
    if peak is None:
        return
    needed = _needed(planned, peak)
    for _, given in _resources(planned, container):
        limit = (given.get("limits") or {}).get("memory")
        if limit is not None and _bytes(str(limit)) < needed * MIB:
            raise RefusedError(
                f"container {container!r} has a memory limit of {limit}; this model needs {needed}Mi, by what loading "
                "it took while the image was built; set at least that in deploy/k8s, or leave memory out there, and "
                "it follows from the model"
            )


def _needed(planned: Sequence[Object], peak: int) -> int:
    """Mebibytes of memory that a container needs."""
    return -(-container_bytes(peak, _workers(planned)) // MIB)


def _resources(planned: Sequence[Object], container: str) -> list[tuple[Object, Object]]:
    """The Deployments with a container of this name, and that container's resources."""
    return [
        (deployment, described.get("resources") or {})
        for deployment in planned
        if deployment["kind"] == "Deployment"
        for described in deployment["spec"]["template"]["spec"]["containers"]
        if described["name"] == container
    ]


def _named(deployment: Object) -> dict[str, Any]:
    return {
        "apiVersion": deployment["apiVersion"],
        "kind": deployment["kind"],
        "metadata": {"name": deployment["metadata"]["name"]},
    }


def _workers(planned: Sequence[Object]) -> int:
    """Of the ConfigMap that the containers take their environment from; else as service.toml says."""
    settings = [item.get("data", {}).get("SERVING_WORKERS") for item in planned if item["kind"] == "ConfigMap"]
    return next((int(workers) for workers in settings if workers), None) or load(_ServerSettings).workers


def _bytes(quantity: str) -> float:
    parts = _QUANTITY.fullmatch(quantity)
    if parts is None:
        raise RefusedError(f"memory limit {quantity!r} is no quantity of Kubernetes, such as 1Gi")
    return float(parts[1]) * ({**_DECIMAL, **_BINARY}[parts[2]] if parts[2] else 1)
