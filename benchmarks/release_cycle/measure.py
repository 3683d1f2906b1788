"""What a release takes, from a changed parameter to an answer of the new server: `nox -s bench_release_cycle`.

It runs `nox -s release` in a rendered repository: the first release builds both images, each further one changes a
parameter. With TEMPLATE_TESTS_ENGINE naming an empty directory an engine of its own starts with nothing, so that the
first release is cold: no layer, no package, no image. Otherwise what the engine has kept of earlier builds is used.
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

from engine import open_engine  # noqa: E402
from rendered import copy_template, nox, render  # noqa: E402

BASE_IMAGE = "python:3.13-slim-trixie"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--releases", type=int, default=3, help="how many, one after another [3]")
    parser.add_argument("--epochs", type=int, default=20, help="epochs that each model is trained for [20]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        answers = {"training_device": "cpu"}
        repository = render(copy_template(ROOT, work / "template"), work / "rendered", answers)
        started = time.monotonic()
        with open_engine(BASE_IMAGE) as engine:
            print(f"{time.monotonic() - started:.1f} s: engine and base image ready", flush=True)
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
    print("\n".join(line for line in lines[first:] if not line.startswith("nox >")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
