"""A LiteRT copy of an exported model, for servers without TensorFlow; and whether it predicts the same."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from mlplatform.contract.targets import Target
from mlplatform.data.dataset import Split
from mlplatform.runtime.call import BATCHES
from mlplatform.training.work import temporary

FILE = "model.tflite"
Predictions = NDArray[np.float32]

# The same network in float32 differs by 1e-6 to 1e-4, as sums are taken in another order; a broken one by 0.1 and more.
TOLERANCE = 1e-3
AGREEMENT = 0.999
SECONDS = 1800.0
# A program of its own: on what it does not know the converter may end the process that it is in, and it prints. By its
# path and without the directory it lies in, for that holds modules that others' imports could find.
CONVERTER = (
    *(sys.executable, "-P", str(Path(__file__).with_name("litert_converter.py"))),
    str(Path(__file__).resolve().parents[2]),
)


class Converter:
    """A process that converts one model after the other. Two thirds of a small model's conversion is its start.

    It ends with this block, with this process however that ends, and by itself when nothing is asked of it for a
    while; then the next conversion starts another.
    """

    def __init__(self, command: Sequence[str] = CONVERTER) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Converter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def start(self) -> None:
        """Let it load TensorFlow beside what this process does until the first conversion."""
        self._running()

    def convert(self, saved_model: Path, batches: Path, target: Path, outputs: Sequence[str]) -> str:
        """Why there is no file at `target` and no `predictions.npy` in `batches`; empty if there are."""
        job = json.dumps([str(saved_model), str(batches), str(target), [*outputs]]).encode() + b"\n"
        # None: it has ended in the moment that it was asked.
        outcome = self._try(job)
        if outcome is None:
            outcome = self._try(job)
        if outcome is None:
            return "the converter ended before it had converted anything"
        reason = batches / "reason.txt"
        return outcome or (reason.read_text(encoding="utf-8") if reason.exists() else "")

    def _try(self, job: bytes) -> str | None:
        """Have a job done: empty once it is, or why it cannot be; None if the process ended for want of jobs."""
        process = self._running()
        jobs, answers = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
        try:
            jobs.write(job)
            if not select.select([answers], [], [], SECONDS)[0]:
                self._end()
                return f"the converter took longer than {SECONDS:g} s"
            if answers.readline():
                return ""
        except BrokenPipeError:
            pass
        code = process.wait()
        if code < 0:
            return f"the converter crashed ({signal.Signals(-code).name})"
        return f"the converter failed ({code})" if code else None

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self._end()
            # In a session of its own: Ctrl-C is for the run, and not for the converter to fail of.
            self._process = subprocess.Popen(  # noqa: S603
                self._command,
                bufsize=0,
                env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def runtime(
    saved_model: Path,
    directory: Path,
    test: Split,
    expected: Predictions,
    batch_size: int,
    work: Path,
    target: Target,
    converter: Converter,
) -> dict[str, Any]:
    """Write FILE into `directory` if LiteRT predicts like the SavedModel; return the manifest's entry about it.

    expected: (examples, ...), what the SavedModel predicts for the test split. The entry: `path`, `valid`, and either
    `reason`, which names the op that does not convert or by how much the predictions differ, or `difference` (the
    largest, as the target measures it) and `agreement` (share of the examples that are answered the same). Valid is
    what the server's own loader computes for the whole split, and for the first examples at each number of rows.
    """
    with temporary(work) as batches:
        for number, at in enumerate(range(0, len(test), batch_size)):
            inputs, _ = test.take(np.arange(at, min(at + batch_size, len(test))))
            # With a prefix, for `file` is a parameter of savez. Texts are objects, read from our own directory.
            named = {f"input_{name}": array for name, array in inputs.items()}
            np.savez(batches / f"{number:08}.npz", allow_pickle=True, **named)
        converted = batches / FILE
        reason = converter.convert(saved_model, batches, converted, list(target.outputs))
        if reason:
            return {"path": FILE, "valid": False, "reason": reason}
        compared = compare(np.load(batches / "predictions.npy"), expected, target)
        few = compare(np.load(batches / "rows.npy"), _few_rows(expected, batch_size), target)
        if compared["valid"] and not few["valid"]:
            compared = {"valid": False, "reason": f"in batches of 1 to {BATCHES[-1]} rows {few['reason']}"}
        if compared["valid"]:
            converted.replace(directory / FILE)
    return {"path": FILE, **compared}


def _few_rows(expected: Predictions, batch_size: int) -> Predictions:
    """What the SavedModel predicts for the batches of the server's sizes, made of the first examples in turn."""
    first = min(len(expected), batch_size)
    rows = np.concatenate([np.arange(size) % first for size in BATCHES])
    return np.take(expected, rows, axis=0)


def switched_off() -> dict[str, Any]:
    """The manifest's entry where nothing was converted."""
    return {"path": FILE, "valid": False, "reason": "it was published with [training] litert = false"}


def compare(found: Predictions, expected: Predictions, target: Target) -> dict[str, Any]:
    """Whether predictions (examples, ...) are the same within TOLERANCE and AGREEMENT, and by how much."""
    if not np.isfinite(found).all():
        return {"valid": False, "reason": "its predictions are not finite"}
    difference, agreement = target.difference(found, expected), target.agreeing(found, expected)
    if difference > TOLERANCE or agreement < AGREEMENT:
        reason = (
            f"{target.one} differs by {difference:.2g} from the SavedModel's and {agreement:.2%} of the rows agree; "
            f"allowed are {TOLERANCE:g} and {AGREEMENT:.1%}"
        )
        return {"valid": False, "reason": reason}
    return {"valid": True, "difference": difference, "agreement": agreement}
