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
    """The compiled generator, and its core. alone: it has the core to itself; else it goes before all others there."""

    program: Path
    core: int
    alone: bool = True

    def closed(self, port: int, seconds: float, connections: int, health: Path, requests: Sequence[Path]) -> Any:
        """Each connection asks again as soon as it is answered."""
        return self._run(port, seconds, "closed", connections, health, requests)

    def open(self, port: int, seconds: float, rate: float, health: Path, requests: Sequence[Path]) -> Any:
        """Requests at the times of a Poisson process, `rate` per second, whatever the server does."""
        return self._run(port, seconds, "open", rate, health, requests)

    def _run(self, port: int, seconds: float, how: str, much: float, health: Path, requests: Sequence[Path]) -> Any:
        # A process with SCHED_IDLE may keep another one waiting for milliseconds, but none with SCHED_FIFO.
        first = () if self.alone else ("chrt", "-f", 1)
        command = ["taskset", "-c", self.core, *first, self.program, port, seconds, how, much, health, *requests]
        done = subprocess.run([str(part) for part in command], capture_output=True, check=True, timeout=seconds + 60)
        return json.loads(done.stdout)


def compiled(work: Path, core: int, alone: bool = True) -> Load:
    """Compile if need be. Raises CalledProcessError, or FileNotFoundError where there is no C compiler."""
    program = work / "load"
    if not program.is_file() or program.stat().st_mtime < SOURCE.stat().st_mtime:
        compiler = shutil.which("cc") or "cc"
        subprocess.run([compiler, "-O2", "-o", str(program), str(SOURCE), "-lm"], check=True)
    return Load(program, core, alone)
