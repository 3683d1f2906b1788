"""A release: an image brought into an environment of the cluster, tried there, and taken back if it does not work."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlplatform.config.hints import hint
from mlplatform.config.settings import ServiceSettings, load
from mlplatform.delivery import programs
from mlplatform.delivery.cluster import VERSION_LABEL, Cluster, Running
from mlplatform.delivery.console import Console
from mlplatform.delivery.datadog import events
from mlplatform.delivery.errors import DeliveryError, RefusedError
from mlplatform.delivery.images import build
from mlplatform.delivery.images.registry import Image, Registry
from mlplatform.delivery.releases import smoke
from mlplatform.delivery.releases.history import DONE, FAILED, ROLLED_BACK, Entry, now, person, record
from mlplatform.delivery.settings import DeliverySettings
from mlplatform.store import manifest, releases
from mlplatform.store.manifest import Manifest
from mlplatform.store.storage import Storage

# As deploy/k8s/base/deployment.yaml names the image that is put in its place.
PLACEHOLDER = "serving"
# As deploy/k8s/components/events names its own, and the container that runs it.
EVENTS = "events"


@dataclass(frozen=True)
class Release:
    """What is released: an image, the model version in it, and the commit that it was built of."""

    environment: str
    image: Image
    model: str
    git_commit: str
    action: str = "deploy"
    reason: str = ""

    @property
    def version(self) -> str:
        """The version label, which differs between models and between commits."""
        return "-".join(filter(None, [self.model, self.git_commit[:7]]))


class Releaser:
    """Releases into the cluster that kubectl is set up for, and keeps the history in the store."""

    def __init__(self, store: Storage, console: Console) -> None:
        self.settings = load(DeliverySettings)
        self.service = load(ServiceSettings).name
        self.cluster = Cluster(self.settings.kubernetes_namespace, self.service)
        self.store = store
        self.console = console

    def of_image(self, environment: str, reference: str, action: str = "deploy", reason: str = "") -> Release:
        """The release of an image by digest, whose labels name the model in it. Raises DeliveryError."""
        image = Image.parse(reference)
        if image is None:
            raise DeliveryError(f"image {reference!r}: must name its digest, registry/name@sha256:...")
        labels = Registry(image.host).labels(image)
        model = labels.get("org.opencontainers.image.version", "")
        if not image.repository.endswith(f"{self.service}-serving"):
            raise RefusedError(f"{reference}: is not an image of {self.service}-serving")
        if not model:
            raise RefusedError(f"{reference}: its labels name no model version; make one: {hint('bundle VERSION')}")
        return Release(environment, image, model, labels.get("org.opencontainers.image.revision", ""), action, reason)

    def render(self, release: Release) -> str:
        """The manifests as they would be applied. Raises DeliveryError."""
        with self._kustomization(release) as directory:
            return programs.output("kubectl", "kustomize", str(directory))

    def release(self, release: Release) -> Entry:
        """Apply, wait, smoke-test; on failure roll back. Returns the entry of the history.

        Raises DeliveryError with why it failed and what became of it; StorageError if the history can't be written.
        """
        environment, say = release.environment, self.console.say
        # First of all: a store that cannot be reached stops the release before anything has changed.
        pointer = releases.pointer(self.store) if environment == "production" else None
        model = manifest.find(self.store, f"models/{release.model}")
        if pointer is not None and model is None:
            raise RefusedError(f"model version {release.model!r}: not in {self.store.url}/models")
        before = self.cluster.running(environment)
        say(f"deploy: {release.model} to {environment}: {release.image.reference}", release.model)
        try:
            self._apply(release)
        except DeliveryError as error:
            self._record(self._entry(release, FAILED, str(error)))
            raise
        try:
            self._wait(environment)
            say("deploy: all pods run; asking the service")
            said = self._try(release, model)
        except DeliveryError as error:
            # Also where it could not be asked: an untested release does not stay.
            outcome, told = self._take_back(release, before, error)
            self._record(self._entry(release, outcome, str(error)))
            raise DeliveryError(told) from None
        say(f"deploy: {said}", release.model)
        entry = self._entry(release, DONE, release.reason)
        running = self.cluster.running(environment)
        entry = replace(entry, replica_set=running.replica_set if running else "")
        self._record(entry)
        if pointer is not None and not releases.set_production(self.store, release.model, pointer):
            raise DeliveryError(
                f"{release.model} runs in production, but meanwhile somebody else recorded another version; "
                f"see both: {hint('status')}"
            )
        return entry

    def bring_back(self, environment: str, entry: Entry) -> Entry:
        """Go back to a release of the history: to its pods' template if the cluster has it still, else by its image.

        Raises DeliveryError or StorageError.
        """
        known = {replica_set["metadata"]["name"] for replica_set in self.cluster.look(environment).replica_sets}
        if entry.replica_set not in known:
            return self.release(
                self.of_image(environment, entry.image, "rollback", f"to the release of {entry.at[:19]}")
            )
        pointer = releases.pointer(self.store) if environment == "production" else None
        self.console.say(f"rollback: {environment} to {entry.model}, released {entry.at[:19]}", entry.model)
        done = replace(entry, at=now(), by=person(), action="rollback", reason=f"to the release of {entry.at[:19]}")
        try:
            self.cluster.undo(environment, entry.replica_set)
            self._wait(environment)
        except DeliveryError as error:
            self._record(replace(done, outcome=FAILED, reason=str(error)))
            told = [f"{environment} is not back at {entry.model}: {error}", *self._diagnosis(environment)]
            raise DeliveryError("\n".join(told)) from None
        self._record(done)
        if pointer is not None and not releases.set_production(self.store, entry.model, pointer):
            raise DeliveryError(f"{entry.model} runs in production, but meanwhile another version was recorded")
        return done

    def _record(self, entry: Entry) -> None:
        record(self.store, entry)
        events.tell(entry, self.service, self.settings, self.console)

    def _apply(self, release: Release) -> None:
        with self._kustomization(release) as directory:
            try:
                said = self.cluster.kubectl("apply", "-k", str(directory), seconds=120)
            except programs.ProgramError as error:
                if f'namespaces "{self.cluster.namespace}" not found' in error.said:
                    raise RefusedError(
                        f"there is no namespace {self.cluster.namespace!r} in the cluster; create it: "
                        f"kubectl create namespace {self.cluster.namespace}"
                    ) from None
                raise
        for line in said.splitlines():
            if not line.endswith("unchanged"):
                self.console.say(f"deploy: {line}")

    @contextmanager
    def _kustomization(self, release: Release) -> Iterator[Path]:
        """A kustomization on top of the overlay with image, version and cause; the repository stays as it is."""
        overlay = build.OVERLAYS / release.environment
        if not overlay.is_dir():
            raise DeliveryError(f"{overlay}: not there; run from the repository's root")
        cause = f"{release.action} of model {release.model} by {person()}"
        deployment: dict[str, Any] = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "any", "annotations": {"kubernetes.io/change-cause": cause}},
        }
        images = {PLACEHOLDER: release.image, **self._events_image(release.environment)}
        with tempfile.TemporaryDirectory(prefix="delivery-deploy-") as temporary:
            directory = Path(temporary).resolve()
            content = {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "resources": [os.path.relpath(overlay.resolve(), directory)],
                # As the settings have it, which a variable of the environment may change.
                "namespace": self.settings.kubernetes_namespace,
                "images": [
                    {"name": name, "newName": image.name, "digest": image.digest} for name, image in images.items()
                ],
                "labels": [{"pairs": {VERSION_LABEL: release.version}, "includeTemplates": True}],
                "patches": [{"target": {"kind": "Deployment"}, "patch": json.dumps(deployment)}],
            }
            (directory / "kustomization.yaml").write_text(json.dumps(content), encoding="utf-8")
            yield directory

    def _events_image(self, environment: str) -> dict[str, Image]:
        """The image of the container that ships events, by its placeholder, where the overlay has one.

        That of this code; if it was not built, say when an old image is deployed again, the one that runs there.
        Raises RefusedError if there is neither.
        """
        if not build.ships_events(environment):
            return {}
        host, repository = build.repository("events", self.settings)
        image = build.look_up(Registry(host), repository, build.events_recipe(self.settings).tag())
        image = image or Image.parse(self.cluster.image(environment, EVENTS))
        if image is None:
            raise RefusedError(
                f"{environment} takes the component events, and there is no image of it in {host}/{repository} yet; "
                f"make it first: {hint('image events')}"
            )
        return {EVENTS: image}

    def _wait(self, environment: str) -> None:
        self.cluster.wait(environment, self.settings.rollout_seconds, self.settings.poll_seconds, self.console)

    def _try(self, release: Release, model: Manifest | None) -> str:
        with self.cluster.forwarded(release.environment) as url:
            return smoke.check(url, self.service, release.model, model)

    def _take_back(self, release: Release, before: Running | None, error: DeliveryError) -> tuple[str, str]:
        """Roll back; return the outcome and a full account of it."""
        environment, name = release.environment, self.cluster.name(release.environment)
        told = [f"{release.model} does not run in {environment}: {error}", *self._diagnosis(environment)]
        try:
            if before is None:
                self.cluster.kubectl("delete", "deployment", name)
                told.append(f"nothing ran there before, so the Deployment {name} was removed")
                return FAILED, "\n".join(told)
            self.cluster.undo(environment, before.replica_set)
            self._wait(environment)
        except (DeliveryError, KeyError) as second:
            told.append(f"AND IT COULD NOT BE TAKEN BACK: {second}")
            return FAILED, "\n".join(told)
        told.append(f"rolled back: {environment} runs {before.version} as before")
        return ROLLED_BACK, "\n".join(told)

    def _diagnosis(self, environment: str) -> list[str]:
        try:
            return list(filter(None, [self.cluster.diagnosis(environment)]))
        except DeliveryError as error:
            return [f"the cluster does not say why: {error}"]

    def _entry(self, release: Release, outcome: str, reason: str) -> Entry:
        return Entry(
            at=now(),
            by=person(),
            environment=release.environment,
            action=release.action,
            image=release.image.reference,
            model=release.model,
            git_commit=release.git_commit,
            outcome=outcome,
            reason=reason,
        )
