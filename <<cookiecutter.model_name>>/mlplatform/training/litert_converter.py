"""`litert_converter.py SAVED_MODEL BATCHES TARGET`: convert a SavedModel, and predict with what came out.

BATCHES: a directory of .npz files, inputs by name. Left there: `predictions.npy`, their predictions one after the other
in the order of the names, and `rows.npy`, those of the first examples for each of SIZES in turn, as the server has an
interpreter for each; or `reason.txt`, why there are none. A program of its own that imports nothing of the
pipeline, see litert.py.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

# The server computes a batch of any size in these; see mlplatform/runtime/litert.py.
SIZES = (1, 2, 4, 8, 16)


def main(saved_model: Path, batches: Path, target: Path) -> int:
    """See the module. Returns 0; TensorFlow may end the process otherwise."""
    import tensorflow as tf

    # Kept: the signature alone does not keep the variables alive. Not from_saved_model, which loses them for models
    # that were saved as more than a signature, and then predicts NaN.
    loaded = tf.saved_model.load(str(saved_model))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([loaded.signatures["serving_default"]], loaded)
    try:
        target.write_bytes(converter.convert())
        paths = sorted(batches.glob("*.npz"))
        np.save(batches / "predictions.npy", predict(target, map(_read, paths)))
        first = _read(paths[0])
        rows = [predict(target, [{name: _repeat(array, size) for name, array in first.items()}]) for size in SIZES]
        np.save(batches / "rows.npy", np.concatenate(rows))
    # ConverterError is an Exception, no more; the interpreter raises RuntimeError and ValueError.
    except Exception as error:
        (batches / "reason.txt").write_text(reason(str(error)), encoding="utf-8")
    return 0


def _read(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=True) as batch:
        return dict(batch)


def _repeat(array: Any, size: int) -> Any:
    return array[np.arange(size) % len(array)]


def predict(model: Path, batches: Iterable[dict[str, Any]]) -> Any:
    """Predictions (examples, classes) for all batches, each of inputs by name."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(model))
    runner = interpreter.get_signature_runner()
    inputs = {name: int(details["index"]) for name, details in runner.get_input_details().items()}
    (output,) = (int(details["index"]) for details in runner.get_output_details().values())
    # It holds on to memory that resizing would move.
    del runner
    predictions = []
    for arrays in batches:
        for name, array in arrays.items():
            interpreter.resize_tensor_input(inputs[name], array.shape)
        interpreter.allocate_tensors()
        for name, array in arrays.items():
            interpreter.set_tensor(inputs[name], array.astype(object) if array.dtype.kind == "S" else array)
        interpreter.invoke()
        predictions.append(interpreter.get_tensor(output))
    return np.concatenate(predictions)


def reason(message: str) -> str:
    """The one sentence of a converter's message that names the op, such as: op tf.StringLower is neither ..."""
    named = re.search(r"'(tfl?\.\w+)' op ([^\n]+)", message)
    if named:
        return f"op {named[1]} {named[2]}"
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[0] if lines else "the converter gives no reason"


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:4])))
