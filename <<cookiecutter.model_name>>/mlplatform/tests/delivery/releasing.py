"""What tests of releases do and ask: images that need no build, how their pods behave, what is in the cluster."""

import json
from typing import Any

from mlplatform.tests.delivery.conftest import Delivery, Repository

OVERLAYS = "deploy/k8s/overlays"


def bundled(delivery: Delivery, version: str) -> str:
    said = delivery("bundle", version)
    assert said.code == 0, said.err
    return said.out.strip()


def image_of(cluster: Repository, version: str, **more: str) -> str:
    """An image in the registry as far as releasing it goes, made in no time: its labels."""
    labels = {
        **more,
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.revision": cluster.environment["GIT_COMMIT"],
    }
    digest = cluster.registry.add_image("team/under-test-serving", version, labels)
    return f"{cluster.registry.host}/team/under-test-serving@{digest}"


def behave(cluster: Repository, image: str, how: str) -> None:
    kept = cluster.programs / "behaviour.json"
    known = json.loads(kept.read_text()) if kept.exists() else {}
    kept.write_text(json.dumps({**known, image.rpartition("@")[2]: how}))


def deployed(cluster: Repository, delivery: Delivery, environment: str, version: str) -> str:
    image = image_of(cluster, version)
    said = delivery("deploy", "--environment", environment, "--image", image)
    assert said.code == 0, said.err
    return image


def in_cluster(cluster: Repository, name: str) -> dict[str, Any]:
    found = objects(cluster)[f"Deployment/{name}"]
    return {"found": found, "template": found["spec"]["template"]}


def objects(cluster: Repository) -> dict[str, Any]:
    """What is in the cluster, by kind and name."""
    kept = cluster.programs / "cluster.json"
    found: dict[str, Any] = json.loads(kept.read_text())["objects"] if kept.exists() else {}
    return found


def history(cluster: Repository) -> list[dict[str, Any]]:
    keys = sorted(cluster.store.keys("releases/history/"))
    return [json.loads(cluster.store.read(key)) for key in keys]


def unanswered(cluster: Repository, command: str, times: int) -> None:
    """From here on kubectl gets no answer to a command, so many times."""
    (cluster.programs / "unanswered.json").write_text(json.dumps({command: times}))


def forbid(cluster: Repository, kind: str, when: str) -> None:
    """This user may not change objects of a kind: "always", or "not in a dry run", as where a webhook refuses it."""
    (cluster.programs / "forbidden.json").write_text(json.dumps({kind: when}))
