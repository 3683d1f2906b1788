"""Finding, verifying and opening the model to serve. Runs on a native thread: nothing of gevent's in here."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from mlplatform.config.hints import hint
from mlplatform.config.settings import StorageSettings, load
from mlplatform.contract.runtimes import runtime_path
from mlplatform.contract.targets import of_manifest
from mlplatform.runtime.saved_model import FrozenCopy
from mlplatform.serving.model import cpu
from mlplatform.serving.model.runtime import RuntimeUnavailableError, WarmRuntime, load_runtime
from mlplatform.serving.model.signature import Signature, SignatureError, read_signature
from mlplatform.serving.settings import ServingSettings
from mlplatform.store.manifest import MANIFEST, ArtifactError, Manifest, find, read_directory
from mlplatform.store.models import list_models
from mlplatform.store.storage import StorageError, open_storage

LOG = logging.getLogger("gunicorn.error")


class NoModelError(Exception):
    """There is no model to serve yet; the message says what to do about it."""


class UnusableModelError(Exception):
    """There is a model, and it cannot be served; the message says why."""


@dataclass(frozen=True)
class OpenedModel:
    """A verified, loaded and warm model; loading took `seconds`."""

    manifest: Manifest
    signature: Signature
    warm: WarmRuntime
    seconds: float


def log_damaged(error: ArtifactError) -> None:
    """Say that a model is left out."""
    LOG.warning("A model that cannot be `latest`: %s", error)


def find_model(settings: ServingSettings) -> tuple[Path, str | None]:
    """The directory of the model to serve, which holds its manifest.json, and its version, None if it is not known.

    Raises NoModelError, UnusableModelError, ArtifactError or StorageError.
    """
    as_path = Path(settings.model)
    if (as_path / MANIFEST).is_file():
        return as_path, None
    if as_path.is_absolute() or len(as_path.parts) > 1:
        raise NoModelError(f"[serving] model = {settings.model!r}: no {MANIFEST} there; bundle a model into it first")
    storage = open_storage(load(StorageSettings).url)
    if settings.model == "latest":
        models = list_models(storage, damaged=log_damaged)
        if not models:
            raise NoModelError(f"no model in {storage.url}/models yet; train one with: {hint('train')}")
        version = models[-1].id
    else:
        version = settings.model
        if find(storage, f"models/{version}") is None:
            raise NoModelError(f"[serving] model = {version!r}: no such version in {storage.url}/models")
    directory = storage.local_path(f"models/{version}")
    if directory is None:
        raise UnusableModelError(f"{storage.url} is not on this machine; set SERVING_MODEL to the path of a copy")
    return directory, version


def open_model(settings: ServingSettings) -> OpenedModel:
    """Find, verify, load and warm up the model. Raises NoModelError or UnusableModelError."""
    try:
        directory, version = find_model(settings)
        started = time.monotonic()
        manifest, content = read_directory(directory)
        if version not in (None, manifest.id):
            raise UnusableModelError(f"{directory}: holds model {manifest.id!r}; publish {version!r} again")
        signature = read_signature(manifest.properties)
        of_manifest(manifest.properties)
        threads = settings.threads or cpu.threads_per_worker(settings.workers)
        path = content / runtime_path(manifest, settings.runtime)
        copy = FrozenCopy(Path(settings.frozen), manifest.content) if settings.frozen else None
        rows = settings.max_batch_rows
        warm = load_runtime(settings.runtime, path, manifest.properties, signature, threads, rows, copy)
    except (ArtifactError, StorageError, SignatureError, RuntimeUnavailableError) as error:
        raise UnusableModelError(str(error)) from None
    except (NoModelError, UnusableModelError):
        raise
    except Exception as error:
        raise UnusableModelError(f"the model cannot be loaded: {type(error).__name__}: {error}") from error
    return OpenedModel(manifest, signature, warm, time.monotonic() - started)
