"""Starting a process under ddtrace-run, where an agent takes traces; without one nothing of ddtrace is loaded.

Loaded it costs memory and start-up time, even with DD_TRACE_ENABLED=false. That is why an image's entry point does
not name it: the process starts itself again under it.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

DEFAULTS = {
    # Flask: ten spans for each request, most of the throughput, whether they are kept or not.
    # gevent, asyncio, futures, logging: they carry a running span along; ours are made when a request is over.
    "DD_PATCH_MODULES": ",".join(
        f"{name}:false"
        for name in ("flask", "gevent", "logging", "asyncio", "futures", "jinja2", "requests", "subprocess")
    ),
    # None does anything for spans of our own, and each has a thread or two.
    "DD_CODE_ORIGIN_FOR_SPANS_ENABLED": "false",
    "DD_REMOTE_CONFIGURATION_ENABLED": "false",
    "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
}
"""Settings of ddtrace, where the environment has none."""


def under_ddtrace(environment: Mapping[str, str]) -> bool:
    """Whether ddtrace-run has started this process: it puts itself on the path of modules."""
    paths = environment.get("PYTHONPATH", "").split(os.pathsep)
    return any(Path(path).parts[-2:] == ("ddtrace", "bootstrap") for path in paths)


def restart(module: str, arguments: Sequence[str]) -> NoReturn:
    """Become `ddtrace-run python -m <module> <arguments>`; the process keeps its id. Raises OSError without ddtrace."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    program = str(Path(sys.executable).with_name("ddtrace-run"))
    os.execv(program, [program, sys.executable, "-m", module, *arguments])  # noqa: S606
