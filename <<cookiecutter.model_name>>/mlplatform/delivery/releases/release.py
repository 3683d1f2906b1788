"""A release: an image brought into an environment of the cluster, tried there, and taken back if it does not work."""

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlplatform.config.hints import hint
from mlplatform.config.settings import ServiceSettings, load
from mlplatform.contract.memory import measured_bytes
from mlplatform.delivery import programs
from mlplatform.delivery.cluster import CONTAINER, VERSION_LABEL, AwayError, Cluster
from mlplatform.delivery.console import Console
from mlplatform.delivery.datadog import events
from mlplatform.delivery.errors import DeliveryError, RefusedError, StoppedError, UnderWayError
from mlplatform.delivery.images import build
from mlplatform.delivery.images.registry import Image, Registry
from mlplatform.delivery.pods import Object
from mlplatform.delivery.releases import memory, objects, smoke, under_way
from mlplatform.delivery.releases.history import DONE, FAILED, ROLLBACK, ROLLED_BACK, Entry, now, person, record
from mlplatform.delivery.releases.objects import Snapshot
from mlplatform.delivery.releases.under_way import UnderWay
from mlplatform.delivery.settings import DeliverySettings
from mlplatform.delivery.stopping import stops_as_interrupts, undisturbed
from mlplatform.ghost import keep_shipping
from mlplatform.store import manifest, releases
from mlplatform.store.manifest import Manifest
from mlplatform.store.releases import Pointer
from mlplatform.store.storage import Storage

# As deploy/k8s/base/deployment.yaml names the image that is put in its place.
PLACEHOLDER = "serving"
KUSTOMIZATION = "kustomization.yaml"
# As deploy/k8s/components/events names its own, and the container that runs it.
EVENTS = "events"
# Jenkins kills what has not ended 5 s after it was asked to; the history takes one of them.
SECONDS_TO_STOP = 3.5
# The process that ships events has crashed by then, if it is going to.
SIDECAR_SECONDS = 10.0
# How often a service is asked that gives no answer.
SMOKE_TESTS = 2


@dataclass(frozen=True)
class Release:
    """What is released: an image, the model version in it, and the commit that it was built of."""

    environment: str
    image: Image
    model: str
    git_commit: str
    action: str = "deploy"
    reason: str = ""
    # Of a rollback, when the release was made that it goes back to.
    to: str = ""
    # Bytes that loading the model took while the image was built, if the image says so.
    memory: int | None = None

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
        commit = labels.get("org.opencontainers.image.revision", "")
        return Release(environment, image, model, commit, action, reason, memory=measured_bytes(labels))

    def render(self, release: Release) -> str:
        """The manifests as they would be applied. Raises DeliveryError."""
        with self._kustomization(release) as directory:
            manifests = _built(directory)
            patches = memory.patches(objects.read(manifests), CONTAINER, release.memory)
            if not patches:
                return manifests
            file = directory / KUSTOMIZATION
            content = json.loads(file.read_text(encoding="utf-8"))
            content["patches"] += patches
            file.write_text(json.dumps(content), encoding="utf-8")
            return _built(directory)

    def release(self, release: Release) -> Entry:
        """Apply, wait, smoke-test; on failure, or if stopped, take it back. Returns the entry of the history.

        Raises DeliveryError with why it failed and what became of it; StorageError if the history can't be written.
        """
        environment = release.environment
        # First of all: a store that cannot be reached stops the release before anything has changed.
        self.settle()
        model = manifest.find(self.store, f"models/{release.model}")
        if environment == "production" and model is None:
            raise RefusedError(f"model version {release.model!r}: not in {self.store.url}/models")
        manifests = self.render(release)
        entry = self._entry(release)
        try:
            planned = self._try_apply(manifests)
            memory.check_limit(planned, CONTAINER, release.memory)
        except DeliveryError as error:
            said = f"{release.model} was not released to {environment}, and nothing was changed: {error}"
            self._record(replace(entry, outcome=FAILED, reason=str(error)))
            raise type(error)(said) from None

        def bring() -> str:
            for line in self.cluster.apply(manifests):
                self.console.say(f"deploy: {line}")
            self._wait(environment)
            self.console.say("deploy: all pods run; asking the service")
            said = self._try(release, model)
            if build.ships_events(environment):
                time.sleep(SIDECAR_SECONDS)
                self.cluster.check_sidecar(environment, EVENTS, keep_shipping.ENDED)
            return said

        self.console.say(f"deploy: {release.model} to {environment}: {release.image.reference}", release.model)
        return self._carry_out(entry, objects.snapshot(self.cluster, planned), bring)

    def bring_back(self, environment: str, entry: Entry) -> Entry:
        """Go back to a release of the history: to its pods' template if the cluster has it still, else by its image.

        Raises DeliveryError or StorageError.
        """
        self.settle()
        reason = f"to the release of {entry.at[:19]}"
        seen = self.cluster.look(environment)
        template = next((item for item in seen.replica_sets if item["metadata"]["name"] == entry.replica_set), None)
        deployment = seen.deployment
        if template is None or deployment is None:
            release = self.of_image(environment, entry.image, ROLLBACK, reason)
            return self.release(replace(release, to=entry.at))

        def bring() -> str:
            objects.roll_to(self.cluster, deployment, template)
            self._wait(environment)
            return f"{environment} is back at the release of {entry.at[:19]}"

        self.console.say(f"rollback: {environment} to {entry.model}, released {entry.at[:19]}", entry.model)
        back = replace(entry, at=now(), by=person(), action=ROLLBACK, outcome=DONE, reason=reason, to=entry.at)
        return self._carry_out(back, objects.snapshot(self.cluster, [deployment]), bring)

    def settle(self) -> list[str]:
        """Finish or take back what a command left that was killed or lost the cluster, in all environments.

        Returns what was done, a line for each. Raises UnderWayError while another release is under way, DeliveryError
        and StorageError if it can't be done now either.
        """
        done = []
        for mark in under_way.marks(self.store):
            if under_way.alive(self.store, mark):
                raise UnderWayError(f"{mark.said()}, is under way; wait until it has ended, or stop it")
            held = under_way.take_over(self.store, mark)
            try:
                done.append(self._finish(held) if mark.phase == under_way.GOOD else self._clean_up(held))
            except AwayError as error:
                raise DeliveryError(
                    f"{mark.said()}, was cut off, and cannot be taken back now: {error}; "
                    f"run {hint('status')} when the cluster answers: it takes that back"
                ) from None
            finally:
                held.leave()
            self.console.say(done[-1])
        return done

    def _carry_out(self, entry: Entry, taken: Snapshot, bring: Callable[[], str]) -> Entry:
        """Change the cluster by `bring` and record that; if it fails or is stopped, take it back and record that."""
        environment = entry.environment
        running = self.cluster.running(environment)
        pointer = releases.pointer(self.store) if environment == "production" else Pointer(None, None)
        before = running.version if running else ""
        with stops_as_interrupts(), under_way.begin(self.store, entry, taken, before, pointer.version) as held:
            try:
                try:
                    with self._patience():
                        said = bring()
                        running = self.cluster.running(environment)
                except DeliveryError as error:
                    # Also where it could not be asked: an untested release does not stay.
                    with self._patience():
                        raise self._taken_back(held, error) from None
            except KeyboardInterrupt:
                with undisturbed():
                    raise self._stopped(held) from None
            with undisturbed():
                self.console.say(f"{'rollback' if entry.action == ROLLBACK else 'deploy'}: {said}", entry.model)
                done = replace(entry, at=now(), replica_set=running.replica_set if running else "")
                held.now(under_way.GOOD, done)
                self._keep(held, pointer)
        return done

    def _keep(self, held: UnderWay, pointer: Pointer) -> None:
        """Record a release that is good."""
        entry = held.mark.entry
        record(self.store, entry)
        recorded = entry.environment != "production" or releases.set_production(self.store, entry.model, pointer)
        held.end()
        self._tell(entry)
        if not recorded:
            raise DeliveryError(
                f"{entry.model} runs in production, but meanwhile somebody else recorded another version; "
                f"see both: {hint('status')}"
            )

    def _taken_back(self, held: UnderWay, error: DeliveryError) -> DeliveryError:
        """Take a release back that failed, and record that; the error with a full account of it."""
        entry, environment = held.mark.entry, held.mark.entry.environment
        told = [_failure(entry, str(error)), *self._diagnosis(environment)]
        try:
            restored = objects.restore(self.cluster, held.mark.snapshot)
            for line in restored:
                self.console.say(f"deploy: {line}")
            if held.mark.version_before and restored:
                self._wait(environment)
        except DeliveryError as second:
            held.now(under_way.GIVEN_UP)
            told.append(f"AND THE ROLLBACK FAILED: {second}")
            told.append(f"the next command does that when the cluster can be reached: {hint('status')}")
            self._record(replace(entry, at=now(), outcome=FAILED, reason=str(error)))
            return DeliveryError("\n".join(told))
        return DeliveryError("\n".join([*told, self._gone_back(held, str(error))]))

    def _stopped(self, held: UnderWay) -> DeliveryError:
        """Take a release back within SECONDS_TO_STOP, and record that; the error that says so."""
        entry = held.mark.entry
        objects.await_deadline(self.cluster, SECONDS_TO_STOP)
        try:
            objects.restore(self.cluster, held.mark.snapshot)
        except DeliveryError as error:
            return StoppedError(
                f"stopped, and {entry.model} could not be taken back from {entry.environment} at once: {error}; "
                f"the next command does that: {hint('status')}"
            )
        return StoppedError(f"stopped: {self._gone_back(held, 'it was stopped')}")

    def _gone_back(self, held: UnderWay, reason: str) -> str:
        """Record that a release was taken back; what runs now."""
        before = held.mark.version_before
        entry = replace(held.mark.entry, at=now(), outcome=ROLLED_BACK if before else FAILED, reason=reason)
        with undisturbed():
            record(self.store, entry)
            held.end()
            self._tell(entry)
        if before:
            return f"rolled back: {entry.environment} runs {before} as before"
        return f"nothing ran in {entry.environment} before, so all that was made there is removed"

    def _finish(self, held: UnderWay) -> str:
        """Record a good release whose command was killed before it could."""
        mark = held.mark
        pointer = releases.pointer(self.store)
        if pointer.version == mark.production or mark.entry.environment != "production":
            self._keep(held, pointer)
        else:
            self._record(mark.entry)
            held.end()
        return f"{mark.said()}, was good and cut off; it is recorded now"

    def _clean_up(self, held: UnderWay) -> str:
        """Take back a release whose command was killed or lost the cluster."""
        mark, environment = held.mark, held.mark.entry.environment
        running = self.cluster.running(environment)
        if running and running.version != mark.version_before and running.image != mark.entry.image:
            reason = f"it was cut off, and by now somebody else brought {running.version} to {environment}"
            self._record(replace(mark.entry, at=now(), outcome=FAILED, reason=reason))
            held.end()
            return f"{mark.said()}: {reason}, which stays"
        objects.restore(self.cluster, mark.snapshot)
        return f"{mark.said()}, was cut off; {self._gone_back(held, 'it was cut off')}"

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """A cluster that does not answer is asked again, for as long as a rollout may take."""
        self.cluster.patience, self.cluster.poll = float(self.settings.rollout_seconds), self.settings.poll_seconds
        self.cluster.say = lambda line: self.console.say(f"deploy: {line}")
        try:
            yield
        finally:
            self.cluster.patience = 0

    def _record(self, entry: Entry) -> None:
        record(self.store, entry)
        self._tell(entry)

    def _tell(self, entry: Entry) -> None:
        events.tell(entry, self.service, self.settings, self.console)

    def _try_apply(self, manifests: str) -> list[Object]:
        try:
            return self.cluster.try_apply(manifests)
        except programs.ProgramError as error:
            if f'namespaces "{self.cluster.namespace}" not found' in error.said:
                raise RefusedError(
                    f"there is no namespace {self.cluster.namespace!r} in the cluster; create it: "
                    f"kubectl create namespace {self.cluster.namespace}"
                ) from None
            raise

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
            (directory / KUSTOMIZATION).write_text(json.dumps(content), encoding="utf-8")
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
        for attempt in range(1, SMOKE_TESTS + 1):
            try:
                with self.cluster.forwarded(release.environment) as url:
                    return smoke.check(url, self.service, release.model, model)
            except (programs.ProgramError, smoke.UnansweredError) as error:
                if attempt == SMOKE_TESTS:
                    raise
                self.console.say(f"deploy: {error}; asking again")
                # Where the cluster is away, this waits until it is back.
                self._wait(release.environment)
        raise AssertionError("a smoke test ends with an answer or an error")

    def _diagnosis(self, environment: str) -> list[str]:
        patience, self.cluster.patience = self.cluster.patience, 0
        try:
            return list(filter(None, [self.cluster.diagnosis(environment)]))
        except DeliveryError as error:
            return [f"the cluster gives no reason: {error}"]
        finally:
            self.cluster.patience = patience

    def _entry(self, release: Release) -> Entry:
        return Entry(
            at=now(),
            by=person(),
            environment=release.environment,
            action=release.action,
            image=release.image.reference,
            model=release.model,
            git_commit=release.git_commit,
            outcome=DONE,
            reason=release.reason,
            to=release.to,
        )


def _built(directory: Path) -> str:
    """The manifests of a kustomization."""
    return programs.output("kubectl", "kustomize", str(directory))


def _failure(entry: Entry, error: str) -> str:
    if entry.action == ROLLBACK:
        return f"{entry.environment} is not back at {entry.model}: {error}"
    return f"{entry.model} does not run in {entry.environment}: {error}"
