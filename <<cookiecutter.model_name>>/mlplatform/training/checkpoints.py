"""Checkpoints: everything a training run needs to resume as if it had never stopped.

`runs/<run>/checkpoints/<serial>-<digest>.npz`: one file, so it is either whole or absent; its name ends in the first 16
hex digits of its SHA-256, so that a damaged one is recognised. The newest two are kept.
"""

import hashlib
import io
import json
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.store.storage import MissingKeyError, Storage, StorageError

log = logging.getLogger(__name__)

GENERATIONS = 2

Arrays = list[NDArray[Any]]


@dataclass
class Position:
    """How far a run has come.

    `epoch` epochs and `step` steps of the next are done; `history` has the metrics of every epoch; `best_loss` is the
    lowest validation loss so far and `best_epoch` its epoch, counted from 0; `reduced_epoch` is the epoch after which
    the learning rate was lowered last; `seconds` is the time spent training, `resumed` how often the run was resumed.
    `phase` is the number of the phase, from 0, and `began` its first epoch; the best loss is one of its own. `stopped`:
    a callback has ended the phase.
    """

    epoch: int = 0
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best_loss: float = float("inf")
    best_epoch: int = -1
    reduced_epoch: int = -1
    seconds: float = 0.0
    resumed: int = 0
    phase: int = 0
    began: int = 0
    stopped: bool = False

    def next_phase(self) -> "Position":
        """The beginning of the phase after this one, which has ended."""
        anew = replace(self, best_loss=float("inf"), best_epoch=self.epoch - 1, stopped=False)
        return replace(anew, phase=self.phase + 1, began=self.epoch)


@dataclass(frozen=True)
class Checkpoint:
    """A position, the state of all variables there, and the weights of the best epoch (empty if not kept).

    vocabularies: those of the network's lookup layers, each a list of texts or whole numbers. callbacks: what those of
    the phase have noted, and `noted` the arrays that it refers to, see Callbacks.state.
    """

    position: Position
    variables: Arrays
    best: Arrays
    vocabularies: list[list[Any]] = field(default_factory=list)
    callbacks: list[dict[str, Any]] = field(default_factory=list)
    noted: Arrays = field(default_factory=list)


class Checkpoints:
    """The checkpoints of one run; writes them in the background."""

    def __init__(self, storage: Storage, run: str) -> None:
        self.storage = storage
        self.prefix = f"runs/{run}/checkpoints/"
        self._writer: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where they lie."""
        return f"{self.storage.url}/{self.prefix.rstrip('/')}"

    def exist(self) -> bool:
        """Whether there is one, whole or not."""
        return any(True for _ in self.storage.keys(self.prefix))

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole, or None."""
        for key in sorted(self.storage.keys(self.prefix), reverse=True):
            try:
                content = self.storage.read(key)
            except MissingKeyError:
                # Removed since the keys were listed, by the writer of a newer one: another process of the same run.
                continue
            if _digest(content) == key.removesuffix(".npz").rpartition("-")[2]:
                return _unpack(content)
            log.warning("train: checkpoint %s is damaged; trying the one before it", key)
        return None

    def save(self, serial: int, checkpoint: Checkpoint) -> bool:
        """Write a checkpoint in the background; the arrays must not change afterwards.

        Serials grow as the run goes on. Returns False if the previous one is still being written.
        """
        if self._writer is not None and self._writer.is_alive():
            return False
        self._writer = threading.Thread(target=self._write, args=(serial, checkpoint), name="checkpoint", daemon=True)
        self._writer.start()
        return True

    def save_within(self, seconds: float, serial: int, checkpoint: Checkpoint) -> bool:
        """Write a checkpoint, waiting for the one before it; return whether that was done in time."""
        deadline = time.monotonic() + seconds
        self._join(deadline)
        if not self.save(serial, checkpoint):
            return False
        self._join(deadline)
        return self._writer is not None and not self._writer.is_alive()

    def _join(self, deadline: float) -> None:
        if self._writer is not None:
            self._writer.join(max(0.0, deadline - time.monotonic()))

    def clear(self) -> None:
        """Remove all checkpoints of the run."""
        if self._writer is not None:
            self._writer.join()
        for key in list(self.storage.keys(self.prefix)):
            self.storage.delete(key)

    def _write(self, serial: int, checkpoint: Checkpoint) -> None:
        try:
            content = _pack(checkpoint)
            self.storage.write(f"{self.prefix}{serial:012}-{_digest(content)}.npz", content)
            for key in sorted(self.storage.keys(self.prefix))[:-GENERATIONS]:
                self.storage.delete(key)
        except StorageError as error:
            # Losing a checkpoint is no reason to lose the run; there is time to repair the store.
            log.warning("train: this checkpoint could not be saved, training goes on: %s", error)


def _pack(checkpoint: Checkpoint) -> bytes:
    state = {
        "position": asdict(checkpoint.position),
        "variables": len(checkpoint.variables),
        "best": len(checkpoint.best),
        "vocabularies": checkpoint.vocabularies,
        "callbacks": checkpoint.callbacks,
    }
    arrays: Sequence[NDArray[Any]] = [*checkpoint.variables, *checkpoint.best, *checkpoint.noted]
    buffer = io.BytesIO()
    named = {f"array{i:06}": array for i, array in enumerate(arrays)}
    np.savez(buffer, allow_pickle=False, state=np.array(json.dumps(state)), **named)
    return buffer.getvalue()


def _unpack(content: bytes) -> Checkpoint:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        state = json.loads(str(file["state"]))
        arrays = [file[name] for name in sorted(file.files) if name != "state"]
    count = state["variables"]
    last = count + state["best"]
    return Checkpoint(
        Position(**state["position"]),
        arrays[:count],
        arrays[count:last],
        state["vocabularies"],
        state["callbacks"],
        arrays[last:],
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
