"""`litert_converter.py ROOT`: convert SavedModels, and predict with what came out.

ROOT: where mlplatform lies, whose loader the server uses: what it computes here, it computes there.
Each line of the standard input is a job, a JSON list: the paths of a SavedModel, of a directory of .npz files, inputs
by `input_<name>`, and of the file to write; and the names of the model's outputs. Left in the directory:
`predictions.npy`, the predictions for one file after the other in the order of their names, several outputs beside each
other; and `rows.npy`, those for the first examples in batches of BATCHES rows; or `reason.txt`, why there are none. A
line of the standard output says that a job is done.
A program of its own, see litert.py. It ends when its standard input does, or when no job comes for IDLE_SECONDS.
"""

import json
import os
import queue
import re
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

# It takes 400 MB, which a training of hours may want for itself.
IDLE_SECONDS = 60.0


def main(root: Path) -> int:
    """See the module. Returns 0 if no job came for a while; TensorFlow may end the process otherwise."""
    jobs: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read_jobs, args=(jobs,), daemon=True).start()
    # The converter prints to the standard output.
    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    import tensorflow  # noqa: F401

    sys.path.append(str(root))
    while True:
        try:
            job = jobs.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            return 0
        saved_model, batches, target, outputs = json.loads(job)
        convert(Path(saved_model), Path(batches), Path(target), outputs)
        os.write(answers, b"done\n")


def convert(saved_model: Path, batches: Path, target: Path, outputs: Sequence[str]) -> None:
    """Do a job."""
    import tensorflow as tf

    from mlplatform.runtime import litert
    from mlplatform.runtime.call import BATCHES, joined

    # Kept: the signature alone does not keep the variables alive. Not from_saved_model, which loses them for models
    # that were saved as more than a signature, and then predicts NaN.
    loaded = tf.saved_model.load(str(saved_model))
    signature = loaded.signatures["serving_default"]
    converter = tf.lite.TFLiteConverter.from_concrete_functions([signature], loaded)
    paths = sorted(batches.glob("*.npz"))
    first = _read(paths[0])
    try:
        target.write_bytes(converter.convert())
        run = litert.load(target, list(first), list(outputs), threads=1)
        predictions = [joined(run(list(_read(path).values()))) for path in paths]
        np.save(batches / "predictions.npy", np.concatenate(predictions))
        few = [joined(run([array[np.arange(rows) % len(array)] for array in first.values()])) for rows in BATCHES]
        np.save(batches / "rows.npy", np.concatenate(few))
    # ConverterError is an Exception, no more; the interpreter raises anything.
    except Exception as error:
        (batches / "reason.txt").write_text(reason(str(error)), encoding="utf-8")


def _read_jobs(jobs: "queue.Queue[str]") -> None:
    for line in sys.stdin:
        jobs.put(line)
    os._exit(1)


def _read(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=True) as batch:
        return {name.removeprefix("input_"): array for name, array in batch.items()}


def reason(message: str) -> str:
    """The one sentence of a converter's message that names the op, such as: op tf.StringLower is neither ..."""
    named = re.search(r"'(tfl?\.\w+)' op ([^\n]+)", message)
    if named:
        return f"op {named[1]} {named[2]}"
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[0] if lines else "the converter gives no reason"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
