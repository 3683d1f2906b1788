"""What loading a model costs in memory and time, frozen and as it was saved.

    python memory.py [MEGABYTES ...]

Makes a model of dense layers with so many megabytes of weights (default: 10 100), and loads each in processes of its
own, in both ways of mlplatform/runtime/saved_model.py. Run it with a Python that has the packages of the template's
requirements/serving.txt, and with the template on its path. The first columns are the process before it loads.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

WAYS = ("frozen", "as saved")


def make(directory: Path, megabytes: int) -> None:
    import tensorflow as tf

    width = int((megabytes * 1_000_000 / 4 / 4) ** 0.5)
    module = tf.Module()
    module.layers = [tf.Variable(tf.random.normal((width, width), stddev=width**-0.5)) for _ in range(4)]

    @tf.function(input_signature=[tf.TensorSpec((None, width), tf.float32, name="x")])
    def serve(x: object) -> dict[str, object]:
        for layer in module.layers:
            x = tf.nn.relu(tf.matmul(x, layer))
        return {"y": x}

    tf.saved_model.save(module, str(directory), signatures={"serving_default": serve})


def load(directory: Path, way: str) -> str:
    """A line of the table."""
    import numpy as np
    import tensorflow as tf

    from mlplatform.runtime import saved_model

    saved_model.FREEZABLE_BYTES = 1 << 30
    before, begun, cpu = memory(), time.perf_counter(), time.process_time()
    if way == "frozen":
        graph = saved_model._freeze(tf, directory, ["x"], ["y"])
        assert graph is not None
        run = graph.callable(tf, ["x"], ["y"], None)
    else:
        run = saved_model._unfrozen(tf, directory, ["x"], ["y"], None)
    # make named it so.
    rows = np.zeros((1, int(directory.name)), np.float32)
    run(rows)
    seconds, used = time.perf_counter() - begun, time.process_time() - cpu
    calls = []
    for _ in range(50):
        start = time.perf_counter()
        run(rows)
        calls.append(time.perf_counter() - start)
    after = memory()
    return (
        f"| {way} | {before['VmRSS']} | {after['VmHWM']} | {after['VmRSS']} | {seconds:.1f} | {used:.1f} "
        f"| {1000 * min(calls):.2f} |"
    )


def memory() -> dict[str, int]:
    """Figures of this process, in MB."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Vm"))
    return {name.rstrip(":"): int(kilobytes) * 1024 // 1_000_000 for name, kilobytes, _ in lines}


def main(sizes: list[int]) -> None:
    for megabytes in sizes:
        width = int((megabytes * 1_000_000 / 4 / 4) ** 0.5)
        print(f"\n{megabytes} MB of weights\n\n| | before, MB | peak, MB | then, MB | s | CPU s | one row, ms |")
        print("|---|---|---|---|---|---|---|", flush=True)
        with tempfile.TemporaryDirectory() as temporary:
            directory = Path(temporary) / str(width)
            again = [sys.executable, __file__]
            subprocess.run([*again, "make", str(directory), str(megabytes)], check=True, stderr=subprocess.DEVNULL)
            for way in WAYS:
                subprocess.run([*again, "load", str(directory), way], check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", directory, megabytes]:
            make(Path(directory), int(megabytes))
        case ["load", directory, way]:
            print(load(Path(directory), way), flush=True)
        case sizes:
            main([int(size) for size in sizes] or [10, 100])
