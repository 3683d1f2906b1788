"""`litert_converter.py ROOT SAVED_MODEL BATCHES TARGET OUTPUT...`: convert a SavedModel, and predict with the result.

ROOT: where mlplatform lies, whose loader the server uses: what it computes here, it computes there.
BATCHES: a directory of .npz files, inputs by `input_<name>`. Left there: `predictions.npy`, their predictions one after
the other in the order of the names, and `rows.npy`, those of the first examples in batches of BATCHES rows; or
`reason.txt`, why there are none. OUTPUT: names of the model's outputs, whose predictions stand beside each other.
A program of its own, see litert.py. It ends when its standard input does.
"""

import os
import re
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def main(outputs: Sequence[str], root: Path, saved_model: Path, batches: Path, target: Path) -> int:
    """See the module. Returns 0; TensorFlow may end the process otherwise."""
    threading.Thread(target=_end_with_the_run, daemon=True).start()
    import tensorflow as tf

    sys.path.append(str(root))
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
    return 0


def _end_with_the_run() -> None:
    os.read(0, 1)
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
    places, names = sys.argv[1:5], sys.argv[5:]
    sys.exit(main(names, *map(Path, places)))
