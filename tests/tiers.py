"""Every tier of the tests but the nightly one: `nox -s tests`. One process for each part.

Parts run beside each other where one of them leaves the processor idle: the second is nice, and mostly takes what the
first does not use. Tests of containers wait for real servers and jobs, with limits on the time, so beside them runs
only what has no such limits. Beside a rendered repository, which trains and serves step by step, run the platform's own
tests but those that take times. These come last, with nothing beside them.
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
# Markers of the parts, and how nice each is to those beside it: the parts of one line run at the same time.
STAGES = (
    (("docker", 0), ("not docker and not rendered and not platform", 19)),
    (("rendered", 0), ("platform and not alone", 5)),
    (("platform and alone", 0),),
)
# Of pytest: all passed; none of the tests was chosen.
GOOD = (0, 5)


@dataclass(frozen=True)
class Part:
    """A pytest process: its tests by their markers, its niceness, and where it writes its output and its timing."""

    markers: str
    niceness: int
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
        command = ["nice", "-n", str(self.niceness), sys.executable, "-m", "pytest", "-m", self.markers]
        shared = {"TEMPLATE_TESTS_ENVIRONMENTS": str(self.directory / "environments")}
        environment = {**os.environ, **shared, "TEMPLATE_TESTS_TIMING": str(self.timing)}
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
        stages = [[Part(*part, Path(temporary)) for part in stage] for stage in STAGES]
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
