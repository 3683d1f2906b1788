"""gunicorn around the application, set up from our settings."""

import os
import signal
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication

from serving.settings import ServingSettings


class Server(BaseApplication):  # type: ignore[misc]
    """gunicorn's master. `run` does not return."""

    service: Any = None

    def __init__(self, settings: ServingSettings, name: str, template_version: str) -> None:
        self.settings = settings
        self.name = name
        self.template_version = template_version
        super().__init__()

    def load_config(self) -> None:
        """See BaseApplication."""
        for name, value in gunicorn_options(self.settings, self.name).items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """The WSGI application; called in the worker, after gevent has patched it."""
        from serving.app import create_app
        from serving.service import Service

        self.service = Service(self.settings, self.name, self.template_version)
        return create_app(self.service)


def gunicorn_options(settings: ServingSettings, name: str) -> dict[str, Any]:
    """The settings of gunicorn."""
    return {
        "bind": [f"{settings.host}:{settings.port}"],
        "proc_name": name,
        "workers": settings.workers,
        "worker_class": "serving.worker.Worker",
        "worker_connections": settings.max_connections,
        # TensorFlow deadlocks when it is forked, so nothing is loaded before.
        "preload_app": False,
        "post_worker_init": _load_model,
        "when_ready": _forward_second_sigterm,
        "graceful_timeout": int(settings.drain_seconds + settings.finish_seconds) + 2,
        # A worker whose event loop stands still for this long is killed. Longer than any model call may take.
        "timeout": int(settings.stuck_seconds) + 30,
        # The heartbeat file; on a disk, touching it may block.
        "worker_tmp_dir": "/dev/shm" if Path("/dev/shm").is_dir() else None,  # noqa: S108
        # Otherwise gunicorn opens a control socket below $HOME: not there in a read-only container.
        "control_socket_disable": True,
    }


def _load_model(worker: Any) -> None:
    service = worker.app.service
    service.draining = lambda: not worker.alive
    service.start()


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
