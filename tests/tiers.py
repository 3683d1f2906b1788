"""Every tier of the tests but the nightly one: `nox -s tests`. One process for each part.

Tests of containers wait for real servers and jobs, with limits on the time, so nothing else runs beside them. A
rendered repository trains and serves beside tests that only render and read. The platform's own tests come last: some
of them measure times, and the others use every core by themselves.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from timing import read

ROOT = Path(__file__).parents[1]
# Markers of the parts: those of one line run beside each other.
STAGES = (
    ("docker",),
    ("rendered", "not docker and not rendered and not platform"),
    ("platform",),
)
# Of pytest: all passed; none of the tests was chosen.
GOOD = (0, 5)


@dataclass(frozen=True)
class Part:
    """A pytest process: which tests by their markers, and where it writes its output and its timing."""

    markers: str
    directory: Path

    @property
    def timing(self) -> Path:
        """File of its timing."""
        return self.directory / f"{self.markers}.json"

    @property
    def output(self) -> Path:
        """File of its output."""
        return self.directory / f"{self.markers}.txt"

    def start(self, *, shown: bool) -> subprocess.Popen[bytes]:
        """Start it; what it prints is shown as it comes, or kept for later."""
        command = [sys.executable, "-m", "pytest", "-m", self.markers]
        environment = {**os.environ, "TEMPLATE_TESTS_TIMING": str(self.timing)}
        if shown:
            return subprocess.Popen(command, cwd=ROOT, env=environment)
        with self.output.open("wb") as output:
            return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)


def run(parts: Sequence[Part]) -> list[int]:
    """Run these beside each other and print each one's output whole; their exit codes."""
    processes = [part.start(shown=number == 0) for number, part in enumerate(parts)]
    try:
        codes = [process.wait() for process in processes]
    finally:
        # Ctrl-C has reached them as well, and they take a while to remove their containers.
        for process in processes:
            process.wait()
        for part in parts[1:]:
            sys.stdout.buffer.write(part.output.read_bytes())
            sys.stdout.flush()
    return codes


def main() -> int:
    """Run all of them, say where the time went, and end with how many tests passed and failed."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        stages = [[Part(markers, Path(temporary)) for markers in stage] for stage in STAGES]
        codes = [code for stage in stages for code in run(stage)]
        timing = read(part.timing for stage in stages for part in stage)
    print(*timing.lines(), sep="\n")
    print(f"{time.monotonic() - started:8.1f} s  in all")
    failed = timing.outcomes["failed"] + timing.outcomes["error"]
    bad = [code for code in codes if code not in GOOD]
    if bad and not failed:
        print(f"pytest ended with {', '.join(map(str, bad))}")
    print(f"{timing.outcomes['passed']} passed, {failed} failed", flush=True)
    return 1 if bad or failed else 0


if __name__ == "__main__":
    sys.exit(main())
