"""gunicorn around the application, set up from our settings."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication

from mlplatform.config.settings import ServiceSettings, StorageSettings, load
from mlplatform.serving.errors import BOOT_ERROR
from mlplatform.serving.ghost.mirror import FLUSH_SECONDS
from mlplatform.serving.http.connection import Answer
from mlplatform.serving.model.loading import log_damaged
from mlplatform.serving.model.ready_workers import ReadyWorkers
from mlplatform.serving.observability.shared_totals import SharedTotals
from mlplatform.serving.settings import ServingSettings
from mlplatform.store.manifest import ArtifactError
from mlplatform.store.models import list_models
from mlplatform.store.storage import StorageError, open_storage
from mlplatform.telemetry import agent, logs, traces

LOG = logging.getLogger("gunicorn.error")


class Gunicorn(BaseApplication):  # type: ignore[misc]
    """gunicorn around our application. `run` does not return."""

    service: Any = None
    observers: Any = None
    directly: Callable[[dict[str, Any]], Answer | None]
    """Answers the predict routes without WSGI; see `Application`."""

    def __init__(self, settings: ServingSettings, service: ServiceSettings, template_version: str) -> None:
        self.settings = _one_version(settings)
        self.name = service.name
        self.description = service.description
        self.template_version = template_version
        self.ready_workers = ReadyWorkers()
        self.totals = SharedTotals() if settings.prometheus else None
        super().__init__()

    def load_config(self) -> None:
        """See BaseApplication."""
        for name, value in gunicorn_options(self.settings, self.name).items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """The WSGI application; called in the worker, after gevent has patched it."""
        from mlplatform.serving.api.app import create_app
        from mlplatform.serving.ghost.ghost_mode import GhostMode
        from mlplatform.serving.model.service import Service
        from mlplatform.serving.observability.observers import Observers

        self.service = Service(self.settings, self.name, self.template_version, self.ready_workers, self.description)
        traced = agent.takes_traces(os.environ) and traces.under_ddtrace(os.environ)
        ghost = GhostMode(self.service)
        self.observers = Observers(self.service, ghost, traced, agent.takes_metrics(os.environ), self.totals)
        app = create_app(self.service, self.observers.all, ghost.log, ghost.replay, self.totals)
        self._add_hooks(app)
        self.directly = app.extensions["inference"].directly
        return app

    def _add_hooks(self, app: Any) -> None:
        """The team's hooks, if there are any. Without them nothing may be answered: they may check who asks."""
        from mlplatform.serving.api.hooks import HooksError, add_hooks

        if not self.settings.hooks:
            return
        try:
            add_hooks(app, self.settings.hooks)
        except HooksError as error:
            LOG.error("error: %s", error)
            sys.exit(BOOT_ERROR)


def _one_version(settings: ServingSettings) -> ServingSettings:
    """`latest` as a version, so that all workers serve the same one, those too that are started later.

    As it is where there is no model yet, or no telling: a worker waits for it, or says what is wrong.
    """
    if settings.model != "latest":
        return settings
    try:
        models = list_models(open_storage(load(StorageSettings).url), damaged=log_damaged)
    except (ArtifactError, StorageError):
        return settings
    return settings.model_copy(update={"model": models[-1].id}) if models else settings


def gunicorn_options(settings: ServingSettings, name: str) -> dict[str, Any]:
    """The settings of gunicorn."""
    in_json = logs.wants_json(os.environ)
    return {
        "bind": [f"{settings.host}:{settings.port}"],
        "proc_name": name,
        "workers": settings.workers,
        "worker_class": "mlplatform.serving.http.worker.Worker",
        # TensorFlow deadlocks when it is forked, so nothing is loaded before.
        "preload_app": False,
        "post_worker_init": _load_model,
        "worker_exit": _stop_observing,
        "child_exit": _keep_totals,
        "on_exit": _remove_totals,
        "when_ready": _set_signals,
        # Without a ghost as well, so that a pod's grace period is one number.
        "graceful_timeout": int(settings.drain_seconds + settings.finish_seconds + FLUSH_SECONDS) + 2,
        # A worker whose event loop stands still for this long is killed. Longer than any model call may take.
        "timeout": int(settings.stuck_seconds) + 30,
        # The heartbeat file; on a disk, touching it may block.
        "worker_tmp_dir": "/dev/shm" if Path("/dev/shm").is_dir() else None,  # noqa: S108
        # Otherwise gunicorn opens a control socket below $HOME: not there in a read-only container.
        "control_socket_disable": True,
        **({"logconfig_dict": logs.json_config(name)} if in_json else {}),
    }


def _load_model(worker: Any) -> None:
    service = worker.app.service
    service.draining = lambda: not worker.alive
    # gunicorn numbers its workers.
    service.replaces = worker.age > worker.cfg.workers
    service.start()
    worker.app.observers.start()


def _stop_observing(arbiter: Any, worker: Any) -> None:
    # None: the worker ended before it had an application.
    if worker.app.observers is not None:
        worker.app.observers.stop()


def _keep_totals(arbiter: Any, worker: Any) -> None:
    if worker.app.totals is not None:
        worker.app.totals.ended(worker.pid)


def _remove_totals(arbiter: Any) -> None:
    if arbiter.app.totals is not None:
        arbiter.app.totals.close()


def _set_signals(arbiter: Any) -> None:
    signal.signal(signal.SIGHUP, _ignore_sighup)
    _forward_second_sigterm(arbiter)


def _forward_second_sigterm(arbiter: Any) -> None:
    """The master ignores further SIGTERMs while it stops; pass them on, as they end the draining."""

    def on_sigterm(number: int, frame: object) -> None:
        if on_sigterm.seen:  # type: ignore[attr-defined]
            for pid in list(arbiter.WORKERS):
                os.kill(pid, signal.SIGTERM)
        on_sigterm.seen = True  # type: ignore[attr-defined]
        arbiter.signal(number, frame)

    on_sigterm.seen = False  # type: ignore[attr-defined]
    signal.signal(signal.SIGTERM, on_sigterm)


def _ignore_sighup(number: int, frame: object) -> None:
    """Gunicorn would end its workers while the new ones are still loading the model, and requests would be lost."""
    LOG.warning("SIGHUP is ignored: to serve another model or other settings, start another server")
