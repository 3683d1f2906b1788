"""The served model and its states: waiting for one, loading, ready, draining."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gevent
from gevent.threadpool import ThreadPool

from artifacts.manifest import MANIFEST, ArtifactError, Manifest, find, list_artifacts, read_directory
from artifacts.settings import StorageSettings, load
from artifacts.storage import MissingKeyError, StorageError, open_storage
from serving import cpu
from serving.batching import Batcher
from serving.runtime import RuntimeUnavailableError, WarmRuntime, load_runtime
from serving.settings import ServingSettings
from serving.signature import Signature, SignatureError, read_signature

LOG = logging.getLogger("gunicorn.error")
_RETRY = 1.0


class NoModelError(Exception):
    """There is no model to serve yet; the message says what to do about it."""


@dataclass(frozen=True)
class ServedModel:
    """A loaded model, ready to compute."""

    manifest: Manifest
    signature: Signature
    batcher: Batcher
    runtime: str
    loaded_in: float


@dataclass(frozen=True)
class _Opened:
    manifest: Manifest
    signature: Signature
    warm: WarmRuntime
    seconds: float


def find_model(settings: ServingSettings) -> Path:
    """The directory of the model to serve, which holds its manifest.json; nothing is read but names.

    Raises NoModelError, or StorageError if the store cannot be looked at.
    """
    as_path = Path(settings.model)
    if (as_path / MANIFEST).is_file():
        return as_path
    if as_path.is_absolute() or len(as_path.parts) > 1:
        raise NoModelError(f"[serving] model = {settings.model!r}: no {MANIFEST} there; bundle a model into it first")
    storage = open_storage(load(StorageSettings).url)
    if settings.model == "latest":
        models = list_artifacts(storage, "models")
        if not models:
            raise NoModelError(f"no model in {storage.url}/models yet; train one with: python -m training")
        version = models[-1].id
    else:
        version = settings.model
        if find(storage, f"models/{version}") is None:
            raise NoModelError(f"[serving] model = {version!r}: no such version in {storage.url}/models")
    directory = storage.local_path(f"models/{version}")
    if directory is None:
        raise StorageError(f"{storage.url} is not on this machine; give the path of a fetched model as SERVING_MODEL")
    return directory


class Service:
    """One process's model. Made in the worker after the fork; `start` begins to load in the background."""

    def __init__(self, settings: ServingSettings, name: str) -> None:
        self.settings = settings
        self.name = name
        self.model: ServedModel | None = None
        self.started = time.monotonic()
        self.draining: Callable[[], bool] = bool
        self.fatal = ""
        self._why_not = "the model is being loaded"

    def start(self) -> None:
        """Load the model without holding up the event loop; `fatal` says why if that is hopeless."""
        gevent.spawn(self._load)

    def not_ready(self) -> str:
        """Why no predictions are taken now; empty when they are."""
        if self.draining():
            return "the server is stopping"
        return "" if self.model is not None else self._why_not

    def not_live(self) -> str:
        """Why this process must be replaced; empty while it is well."""
        settings = self.settings
        if self.model is None:
            loading = self._why_not.startswith("the model")
            too_long = loading and time.monotonic() - self.started > settings.load_seconds
            return f"the model did not load within {settings.load_seconds:g} s" if too_long else ""
        busy = self.model.batcher.busy_for()
        return f"a model call has been running for {busy:.0f} s" if busy > settings.stuck_seconds else ""

    def _load(self) -> None:
        directory = self._wait_for_model()
        if directory is None:
            return
        # A native thread: importing TensorFlow takes 3 s, in which health checks want answers.
        opened: _Opened | str = ThreadPool(1).apply(_try_open, (directory, self.settings))
        if isinstance(opened, str):
            self.fatal = opened
            return
        queue_seconds = self.settings.queue_ms / 1000
        batcher = Batcher(opened.warm.run, opened.warm.costs, queue_seconds, opened.signature.one_shape)
        self.model = ServedModel(opened.manifest, opened.signature, batcher, self.settings.runtime, opened.seconds)
        LOG.info(
            "Ready: model %s, version %s, %s, up to %d rows in a call %s, loaded in %.1f s",
            self.name,
            opened.manifest.id,
            self.settings.runtime,
            batcher.max_rows,
            "on a thread of its own" if batcher.threaded else "in the event loop",
            opened.seconds,
        )

    def _wait_for_model(self) -> Path | None:
        told = ""
        while True:
            try:
                directory = find_model(self.settings)
            except NoModelError as error:
                self._why_not = str(error)
                if told != self._why_not:
                    told = self._why_not
                    LOG.warning("Waiting: %s", told)
                gevent.sleep(_RETRY)
            except (ArtifactError, StorageError, MissingKeyError) as error:
                self.fatal = str(error)
                return None
            else:
                self._why_not = "the model is being loaded"
                self.started = time.monotonic()
                return directory


def _try_open(directory: Path, settings: ServingSettings) -> _Opened | str:
    """The opened model, or why not: gevent would log an exception's traceback."""
    try:
        return _open(directory, settings)
    except (ArtifactError, SignatureError, RuntimeUnavailableError) as error:
        return str(error)
    except Exception as error:
        return f"{directory}: the model cannot be loaded: {type(error).__name__}: {error}"


def _open(directory: Path, settings: ServingSettings) -> _Opened:
    """Verify, load and warm up a model; on a native thread, so nothing of gevent's in here."""
    started = time.monotonic()
    manifest, content = read_directory(directory)
    signature = read_signature(manifest.properties)
    threads = settings.threads or cpu.threads_per_worker(settings.workers)
    warm = load_runtime(settings.runtime, content, manifest.properties, signature, threads, settings.max_batch_rows)
    return _Opened(manifest, signature, warm, time.monotonic() - started)
