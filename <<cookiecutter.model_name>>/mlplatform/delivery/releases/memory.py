"""Whether the containers of a release are large enough for the model in its image."""

import re
from collections.abc import Sequence

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from mlplatform.config.settings import Section, load
from mlplatform.contract.memory import container_bytes
from mlplatform.delivery.errors import RefusedError
from mlplatform.delivery.pods import Object

MIB = 1 << 20
# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_QUANTITY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)([numkKMGTPE]i?)?")
_DECIMAL = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY = {f"{prefix}i": float(1 << (10 * power)) for power, prefix in enumerate("KMGTPE", start=1)}


class _ServerSettings(Section, section="serving"):
    """Of the server's settings, the one that its memory depends on."""

    model_config = SettingsConfigDict(extra="ignore")
    workers: int = Field(default=1, ge=1, le=64)


def check_limit(planned: Sequence[Object], container: str, peak: int | None) -> None:
    """Refuse a memory limit that cannot hold the model.

    planned: the objects of the release, as the cluster would have them; peak: bytes that loading the model took while
    its image was built, None for an image that does not say. Raises RefusedError.
    """
    if peak is None:
        return
    needed = -(-container_bytes(peak, _workers(planned)) // MIB)
    for limit in _limits(planned, container):
        if _bytes(limit) < needed * MIB:
            raise RefusedError(
                f"container {container!r} has a memory limit of {limit}; this model needs {needed}Mi, by what loading "
                "it took while the image was built; set at least that in deploy/k8s"
            )


def _limits(planned: Sequence[Object], container: str) -> list[str]:
    return [
        str(described["resources"]["limits"]["memory"])
        for deployment in planned
        if deployment["kind"] == "Deployment"
        for described in deployment["spec"]["template"]["spec"]["containers"]
        if described["name"] == container and described.get("resources", {}).get("limits", {}).get("memory")
    ]


def _workers(planned: Sequence[Object]) -> int:
    """Of the ConfigMap that the containers take their environment from; else as service.toml says."""
    settings = [item.get("data", {}).get("SERVING_WORKERS") for item in planned if item["kind"] == "ConfigMap"]
    return next((int(workers) for workers in settings if workers), None) or load(_ServerSettings).workers


def _bytes(quantity: str) -> float:
    parts = _QUANTITY.fullmatch(quantity)
    if parts is None:
        raise RefusedError(f"memory limit {quantity!r} is no quantity of Kubernetes, such as 1Gi")
    return float(parts[1]) * ({**_DECIMAL, **_BINARY}[parts[2]] if parts[2] else 1)
