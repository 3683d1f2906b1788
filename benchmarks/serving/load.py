"""The load generator, load.c, compiled once and run on a core of its own."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from environments import HERE

SOURCE = HERE / "load.c"


@dataclass(frozen=True)
class Load:
    """The compiled generator, and the core that it has to itself."""

    program: Path
    core: int

    def closed(self, port: int, seconds: float, connections: int, health: Path, requests: Sequence[Path]) -> Any:
        """Each connection asks again as soon as it is answered."""
        return self._run(port, seconds, "closed", connections, health, requests)

    def open(self, port: int, seconds: float, rate: float, health: Path, requests: Sequence[Path]) -> Any:
        """Requests at the times of a Poisson process, `rate` per second, whatever the server does."""
        return self._run(port, seconds, "open", rate, health, requests)

    def _run(self, port: int, seconds: float, how: str, much: float, health: Path, requests: Sequence[Path]) -> Any:
        command = ["taskset", "-c", str(self.core), self.program, port, seconds, how, much, health, *requests]
        done = subprocess.run([str(part) for part in command], capture_output=True, check=True, timeout=seconds + 60)
        return json.loads(done.stdout)


def compiled(work: Path, core: int) -> Load:
    """Compile if need be. Raises CalledProcessError, or FileNotFoundError where there is no C compiler."""
    program = work / "load"
    if not program.is_file() or program.stat().st_mtime < SOURCE.stat().st_mtime:
        compiler = shutil.which("cc") or "cc"
        subprocess.run([compiler, "-O2", "-o", str(program), str(SOURCE), "-lm"], check=True)
    return Load(program, core)
