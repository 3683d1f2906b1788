"""Training a model of kinds/ by the template's pipeline, in an empty directory."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TEMPLATE = HERE.parent.parent / "<<cookiecutter.model_name>>"
sys.path[:0] = [str(HERE), str(TEMPLATE)]

from data import KINDS, records  # noqa: E402

from mlplatform.tests.serving.running import NAME  # noqa: E402


def train(kind: str, directory: Path) -> dict[str, Any]:
    """Train a model in an empty directory. `why`: the last words of a run that published none."""
    (directory / "data").mkdir()
    lines = "".join(json.dumps(record) + "\n" for record in records(kind))
    (directory / "data" / "records.jsonl").write_text(lines, encoding="utf-8")
    toml = f'[service]\nname = "{NAME}"\n[storage]\nurl = "{directory / "store"}"\n'
    (directory / "service.toml").write_text(toml, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE / "kinds" / kind), str(TEMPLATE)])}
    command = ["-m", "mlplatform", "train", "--source", "data", "--epochs", str(KINDS[kind][2])]
    started = time.monotonic()
    with (directory / "train.log").open("w") as log:
        process = os.posix_spawn(
            "/usr/bin/env",
            ["env", "-C", str(directory), sys.executable, *command],
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, log.fileno(), 1), (os.POSIX_SPAWN_DUP2, log.fileno(), 2)],
        )
    # Memory: the largest of the run and of the processes that it has waited for.
    _, status, used = os.wait4(process, 0)
    figures: dict[str, Any] = {
        "exit_code": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - started,
        "cpu": used.ru_utime + used.ru_stime,
        "memory": used.ru_maxrss * 1024,
    }
    if figures["exit_code"]:
        said = (directory / "train.log").read_text(encoding="utf-8").strip()
        figures["why"] = next((line for line in reversed(said.splitlines()) if line.startswith("train: ")), said[-300:])
    return figures
