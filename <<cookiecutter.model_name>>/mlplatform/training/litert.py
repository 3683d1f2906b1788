"""A LiteRT copy of an exported model, for servers without TensorFlow; and whether it predicts the same."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mlplatform.data.dataset import Split
from mlplatform.runtime.call import BATCHES
from mlplatform.training.evaluation import Probabilities

log = logging.getLogger(__name__)

FILE = "model.tflite"
# The same network in float32 differs by 1e-6 to 1e-4, as sums are taken in another order; a broken one by 0.1 and more.
TOLERANCE = 1e-3
AGREEMENT = 0.999
SECONDS = 1800.0
# A process of its own: on what it does not know the converter may end the process that it is in, and it prints. By its
# path and without the directory it lies in, for that holds modules that others' imports could find.
CONVERTER = (sys.executable, "-P", str(Path(__file__).with_name("litert_converter.py")))


def runtime(
    saved_model: Path,
    directory: Path,
    test: Split,
    expected: Probabilities,
    batch_size: int,
    work: Path,
    converter: Sequence[str] = CONVERTER,
) -> dict[str, Any]:
    """Write FILE into `directory` if LiteRT predicts like the SavedModel; return the manifest's entry about it.

    expected: (examples, classes), what the SavedModel predicts for the test split. The entry: `path`, `valid`, and
    either `reason`, which names the op that does not convert or by how much the predictions differ, or `difference`
    (the largest, of a probability) and `agreement` (share of examples with the same label).
    """
    with TemporaryDirectory(dir=work) as temporary:
        batches = Path(temporary)
        for number, at in enumerate(range(0, len(test), batch_size)):
            inputs, _ = test.take(np.arange(at, min(at + batch_size, len(test))))
            # Texts are objects; the other process reads them from this one's own directory.
            np.savez(batches / f"{number:08}.npz", allow_pickle=True, **inputs)
        target = batches / FILE
        reason = _convert(converter, saved_model, batches, target)
        entry: dict[str, Any] = {"path": FILE, "valid": False, "reason": reason}
        if not reason:
            entry = {"path": FILE, **compare(np.load(batches / "predictions.npy"), expected)}
            few = compare(np.load(batches / "rows.npy"), _few_rows(expected, batch_size))
            if entry["valid"] and not few["valid"]:
                entry = {
                    "path": FILE,
                    "valid": False,
                    "reason": f"in batches of 1 to {BATCHES[-1]} rows {few['reason']}",
                }
        if entry["valid"]:
            target.replace(directory / FILE)
    if entry["valid"]:
        log.info("publish: LiteRT predicts the same, the largest difference is %.1e", entry["difference"])
    else:
        log.info("publish: not for LiteRT: %s", entry["reason"])
    return entry


def _few_rows(expected: Probabilities, batch_size: int) -> Probabilities:
    """What the SavedModel predicts for the batches of the server's sizes, made of the first examples in turn."""
    first = min(len(expected), batch_size)
    rows = np.concatenate([np.arange(size) % first for size in BATCHES])
    return np.take(expected, rows, axis=0)


def switched_off() -> dict[str, Any]:
    """The manifest's entry where nothing was converted."""
    return {"path": FILE, "valid": False, "reason": "it was published with [training] litert = false"}


def compare(found: Probabilities, expected: Probabilities) -> dict[str, Any]:
    """Whether predictions (examples, classes) are the same within TOLERANCE and AGREEMENT, and by how much."""
    if not np.isfinite(found).all():
        return {"valid": False, "reason": "its predictions are not finite"}
    difference = float(np.abs(found - expected).max())
    agreement = float(np.mean(found.argmax(axis=1) == expected.argmax(axis=1)))
    if difference > TOLERANCE or agreement < AGREEMENT:
        reason = (
            f"a probability differs by {difference:.2g} from the SavedModel's and {agreement:.2%} of the labels agree; "
            f"allowed are {TOLERANCE:g} and {AGREEMENT:.1%}"
        )
        return {"valid": False, "reason": reason}
    return {"valid": True, "difference": difference, "agreement": agreement}


def _convert(converter: Sequence[str], saved_model: Path, batches: Path, target: Path) -> str:
    """Why there is no file at `target` and no `predictions.npy` in `batches`; empty if there are."""
    # In a session of its own: Ctrl-C is for the run, which then ends it, and not for the converter to fail of.
    process = subprocess.Popen(  # noqa: S603
        [*converter, str(saved_model), str(batches), str(target)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        code = process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        return f"the converter took longer than {SECONDS:g} s"
    finally:
        process.kill()
        process.wait()
    if code < 0:
        return f"the converter crashed ({signal.Signals(-code).name})"
    reason = batches / "reason.txt"
    return (
        reason.read_text(encoding="utf-8") if reason.exists() else "" if code == 0 else f"the converter failed ({code})"
    )
