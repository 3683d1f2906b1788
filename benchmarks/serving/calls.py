"""The limit of the model: calls of the served model without HTTP, through the server's own runtime.

    python calls.py tensorflow|litert DIRECTORY

Says "ready" when the model is loaded. Then each line of standard input is a time in seconds, for which it calls the
model, and prints rows per second by rows in a call, as JSON. DIRECTORY holds manifest.json.
"""

import json
import sys
import time
from pathlib import Path

from environments import TEMPLATE

sys.path.insert(0, str(TEMPLATE))

import numpy as np

from mlplatform.contract.runtimes import runtime_path
from mlplatform.serving.model.runtime import load_runtime
from mlplatform.serving.model.signature import read_signature
from mlplatform.store.manifest import read_directory

SIZES = (1, 2, 4, 8, 16, 32, 64)


def main(runtime: str, directory: Path) -> None:
    manifest, content = read_directory(directory)
    signature = read_signature(manifest.properties)
    path = content / runtime_path(manifest, runtime)
    run = load_runtime(runtime, path, manifest.properties, signature, 1, 0).run
    (tensor,) = signature.inputs
    random = np.random.default_rng(1)
    rows = {size: random.integers(0, 17, (size, *tensor.shape)).astype(tensor.dtype) for size in SIZES}
    for size in SIZES:
        run([rows[size]])
    print("ready", flush=True)
    for line in sys.stdin:
        found = {}
        for size in SIZES:
            calls, start = 0, time.perf_counter()
            while time.perf_counter() - start < float(line) / len(SIZES):
                run([rows[size]])
                calls += 1
            found[size] = round(calls * size / (time.perf_counter() - start), 1)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
