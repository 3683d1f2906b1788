"""The served model and its states: none yet, loading, ready, draining."""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus

import gevent
from gevent.event import Event
from gevent.threadpool import ThreadPool

from mlplatform.contract.targets import Target, of_manifest
from mlplatform.serving.errors import RequestError
from mlplatform.serving.model.batching import Batcher
from mlplatform.serving.model.loading import NoModelError, OpenedModel, UnusableModelError, open_model
from mlplatform.serving.model.ready_workers import ReadyWorkers
from mlplatform.serving.model.signature import Signature
from mlplatform.serving.settings import ServingSettings
from mlplatform.store.manifest import Manifest

LOG = logging.getLogger("gunicorn.error")
_RETRY_SECONDS = 1.0
LABELS = ("latest", "stable")
"""Version labels of V1. A server has one version, so each of them means that one."""


@dataclass(frozen=True)
class ServedModel:
    """A model that is ready to compute."""

    manifest: Manifest
    signature: Signature
    batcher: Batcher

    @cached_property
    def target(self) -> Target | None:
        """What it predicts; None if its manifest does not say."""
        return of_manifest(self.manifest.properties)

    @property
    def labels(self) -> tuple[str, ...]:
        """In the order of the values of its output; empty if it has none."""
        return self.target.value_names if self.target else ()


class Service:
    """One process's model. Made in the worker after the fork; `start` begins to load in the background.

    fatal: why there is no hope of serving the model, empty otherwise. draining: set by whoever stops the process.
    workers: those of this server that have a model, this one included as soon as it has.
    replaces: this process takes the place of one that died, whose clients do not know of it yet; set before `start`.
    description: what the model does, for people.
    """

    def __init__(
        self,
        settings: ServingSettings,
        name: str,
        template_version: str,
        workers: ReadyWorkers | None = None,
        description: str = "",
    ) -> None:
        self.settings = settings
        self.name = name
        self.description = description
        self.template_version = template_version
        self.model: ServedModel | None = None
        self.fatal = ""
        self.started = time.monotonic()
        self.draining: Callable[[], bool] = bool
        self._workers = workers or ReadyWorkers()
        self.replaces = False
        self._loaded = Event()
        self._no_model = ""
        self._loading_since = self.started

    def start(self) -> None:
        """Load the model without holding up the event loop; keep trying until there is one."""
        gevent.spawn(self._load)

    def await_model(self) -> None:
        """Let a request wait that reaches a process which replaces another one, until the model is there.

        Such a process is not ready, and soon gets no requests; those that come until then are better answered late,
        within their longest time, than refused.
        """
        if self.model is None and self.replaces:
            self._loaded.wait(self.settings.deadline_ms / 1000)

    def require(self, version: str | None = None, label: str | None = None) -> ServedModel:
        """The model, if it is the version asked for; None: any. Raises RequestError (503, 404)."""
        model = self.model
        if model is None:
            # On a connection that stays open the next request would come here as well, past the pods that are ready.
            raise RequestError(HTTPStatus.SERVICE_UNAVAILABLE, self.not_ready(), retry_after=1, close=True)
        if version not in (None, model.manifest.id):
            raise RequestError(
                HTTPStatus.NOT_FOUND, f"no version {version!r} here; this server has {model.manifest.id!r}"
            )
        if label not in (None, *LABELS):
            known = " and ".join(repr(name) for name in LABELS)
            raise RequestError(
                HTTPStatus.NOT_FOUND, f"no label {label!r} here; {known} stand for version {model.manifest.id!r}"
            )
        return model

    def stands_back(self) -> bool:
        """Whether connections are for others: there is no model here yet, and another worker of this server has one."""
        return self.model is None and self._workers.any()

    def take_no_more(self) -> None:
        """The process is stopping, and takes no more connections: a worker that is still loading has to."""
        self._workers.remove(os.getpid())

    def not_ready(self) -> str:
        """Why no predictions are taken now; empty when they are."""
        if self.draining():
            return "the server is stopping"
        return "" if self.model is not None else self._no_model or "the model is being loaded"

    def not_live(self) -> str:
        """Why this process must be replaced; empty while it is well."""
        settings = self.settings
        if self.model is not None:
            busy = self.model.batcher.busy_for()
            return f"a model call has been running for {busy:.0f} s" if busy > settings.stuck_seconds else ""
        too_long = time.monotonic() - self._loading_since > settings.load_seconds
        return f"the model did not load within {settings.load_seconds:g} s" if too_long else ""

    def _load(self) -> None:
        # A native thread: importing TensorFlow takes seconds, in which health checks want answers.
        loader = ThreadPool(1)
        opened = loader.apply(_attempt, (self.settings,))
        while isinstance(opened, NoModelError):
            if self._no_model != str(opened):
                self._no_model = str(opened)
                LOG.warning("Waiting: %s", self._no_model)
            gevent.sleep(_RETRY_SECONDS)
            self._loading_since = time.monotonic()
            opened = loader.apply(_attempt, (self.settings,))
        loader.kill()
        if isinstance(opened, UnusableModelError):
            self.fatal = str(opened)
            self._loaded.set()
            return
        warm, signature = opened.warm, opened.signature
        lengths = [tensor.length for tensor in signature.inputs]
        batcher = Batcher(
            warm.run,
            warm.costs,
            self.settings.queue_ms / 1000,
            signature.one_shape,
            lengths if any(lengths) else (),
        )
        self.model = ServedModel(opened.manifest, signature, batcher)
        self._workers.add(os.getpid())
        self._loaded.set()
        LOG.info(
            "Ready: model %s, version %s, %s, up to %d rows in a call %s, loaded in %.1f s",
            self.name,
            opened.manifest.id,
            self.settings.runtime,
            batcher.max_rows,
            "on a thread of its own" if batcher.threaded else "in the event loop",
            opened.seconds,
        )


def _attempt(settings: ServingSettings) -> OpenedModel | NoModelError | UnusableModelError:
    """The error as a value: gevent would log the traceback of one raised on its thread."""
    try:
        return open_model(settings)
    except (NoModelError, UnusableModelError) as error:
        return error
