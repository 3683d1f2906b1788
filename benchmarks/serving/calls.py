"""The limit of the model: calls of the served model without HTTP, through the server's own runtime.

    python calls.py tensorflow|litert DIRECTORY SECONDS

Prints rows per second by rows in a call, as JSON. DIRECTORY holds manifest.json.
"""

import json
import sys
import time
from pathlib import Path

from environments import TEMPLATE

sys.path.insert(0, str(TEMPLATE))

import numpy as np

from artifacts.manifest import read_directory
from artifacts.runtimes import runtime_path
from serving.runtime import load_runtime
from serving.signature import read_signature

SIZES = (1, 2, 4, 8, 16, 32, 64)


def main(runtime: str, directory: Path, seconds: float) -> dict[int, float]:
    manifest, content = read_directory(directory)
    signature = read_signature(manifest.properties)
    path = content / runtime_path(manifest, runtime)
    run = load_runtime(runtime, path, manifest.properties, signature, 1, 0).run
    (tensor,) = signature.inputs
    random = np.random.default_rng(1)
    found = {}
    for size in SIZES:
        rows = random.integers(0, 17, (size, *tensor.shape)).astype(tensor.dtype)
        run([rows])
        calls, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds / len(SIZES):
            run([rows])
            calls += 1
        found[size] = round(calls * size / (time.perf_counter() - start), 1)
    return found


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))))
