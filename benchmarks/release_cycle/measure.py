"""What a release takes, from a changed parameter to an answer of the new server: `nox -s bench_release_cycle`.

It runs `nox -s release` in a rendered repository: the first release builds both images, each further one changes a
parameter. With TEMPLATE_TESTS_ENGINE naming an empty directory an engine of its own starts with nothing, so that the
first release is cold: no layer, no package, no image. Otherwise what the engine has kept of earlier builds is used. The
figures are kept in README.md beside this file, below "Cold" or below "Warm".
Not in the figures, and the same for any template: the wait for a Spot instance, the pull of an image by Batch and by
the cluster, the way of the layers over a network, and a rollout pod by pod.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from engine import PLACE, open_engine  # noqa: E402
from rendered import copy_template, git, nox, render  # noqa: E402

BASE_IMAGE = "python:3.13-slim-trixie"
KEPT = Path(__file__).with_name("README.md")


def keep(heading: str, table: str, options: argparse.Namespace, engine_seconds: float) -> None:
    """Put a table and what it was measured on below its heading, in place of the one before."""
    commit = git(ROOT, "rev-parse", "--short", "HEAD").strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    text = (
        f"Seconds, of commit {commit} on {os.cpu_count()} cores with {memory:.0f} GiB of memory,\n"
        f"{options.epochs} epochs each; {engine_seconds:.1f} s before that until engine and base image were ready."
    )
    before, mark, after = KEPT.read_text(encoding="utf-8").partition(f"\n## {heading}\n")
    rest = f"\n## {after.partition(chr(10) + '## ')[2]}" if "\n## " in after else ""
    KEPT.write_text(f"{before}{mark}\n{text}\n\n```\n{table.strip()}\n```\n{rest}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--releases", type=int, default=3, help="how many, one after another [3]")
    parser.add_argument("--epochs", type=int, default=20, help="epochs that each model is trained for [20]")
    options = parser.parse_args()
    # As open_engine uses it where no engine answers: one that has kept something is not cold.
    cold = not (PLACE / "data").exists()
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        answers = {"training_device": "cpu"}
        repository = render(copy_template(ROOT, work / "template"), work / "rendered", answers)
        started = time.monotonic()
        with open_engine(BASE_IMAGE) as engine:
            engine_seconds = time.monotonic() - started
            cold = cold and engine.host.endswith(f"{PLACE}/docker.sock")
            print(f"{engine_seconds:.1f} s: engine and base image ready", flush=True)
            # The client that builds with BuildKit may not be the first on PATH.
            (work / "docker").symlink_to(engine.client)
            settings = {**engine.environment, "PATH": f"{work}{os.pathsep}{os.environ['PATH']}"}
            result = nox(
                *(repository, "-s", "release", "--", "--releases", str(options.releases)),
                *("--epochs", str(options.epochs)),
                **{**settings, "DELIVERY_BASE_IMAGE": engine.base_image},
            )
    if result.returncode:
        print(result.stdout)
        return result.returncode
    lines = result.stdout.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("step  "))
    table = "\n".join(line for line in lines[first:] if not line.startswith("nox >"))
    print(table)
    keep("Cold" if cold else "Warm", table, options, engine_seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
