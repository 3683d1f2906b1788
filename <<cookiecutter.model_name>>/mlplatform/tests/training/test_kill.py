"""A run that is killed again and again ends with the very weights of one that was left alone."""

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from mlplatform.cli import main
from mlplatform.contract.stopping import Stop
from mlplatform.store.manifest import read_directory

pytestmark = pytest.mark.serial

KILLS = 12
# Seconds that a run may take which is left alone: 3 on a machine of its own.
PATIENCE = 600
# A checkpoint every 50 ms: nearly all the time one is being written, so that kills meet the writing as well.
PARAMETERS = (
    *("--epochs", "150", "--batch-size", "16", "--checkpoint-seconds", "0.05", "--minimum-accuracy", "0"),
    *("--litert", "false", "--source", "data"),
)

# Phases of a training, by a function that is running then.
PHASES = {
    ("func_graph.py", "func_graph_from_py_func"): "tracing",
    ("preflight.py", "check"): "preflight",
    ("export.py", "export"): "export",
    ("litert.py", "convert"): "conversion",
    ("manifest.py", "publish"): "upload",
}
MOST_STOPS = 60

# Real processes, forked from one that has imported TensorFlow and done nothing with it: that saves 12 times 5 s.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["mlplatform.tests.training.toy_process"])


def train(directory: Path) -> None:
    """Be `python -m mlplatform train` in a directory, printing to the file `output` there."""
    os.chdir(directory)
    output = os.open("output", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    os.dup2(output, sys.stdout.fileno())
    os.dup2(output, sys.stderr.fileno())
    sys.exit(main(["train", *PARAMETERS]))


class Told:
    """Told to stop at hundreds of points of a training, each in a fork of it: at Python's calls of functions, many of
    them from within TensorFlow's C++.

    ends: how these forks ended, by phase.
    """

    def __init__(self, stop: Stop) -> None:
        self.ends: dict[str, list[int]] = {}
        self._stop = stop
        self._calls = 0
        self._times: Counter[Any] = Counter()

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        """See sys.setprofile."""
        if event != "call":
            return
        self._calls += 1
        ours = "/mlplatform/" in frame.f_code.co_filename
        self._times[frame.f_code] += ours
        # The first call of each function of ours, and others here and there. Where a stop is deferred the fork would
        # train on, which TensorFlow's threads do not survive; test_fitting stops after each step there is.
        if (not (ours and self._times[frame.f_code] == 1) and self._calls % 5003) or self._stop.deferring:
            return
        phase = phase_of(frame)
        if len(self.ends.setdefault(phase, [])) == MOST_STOPS:
            return
        process = os.fork()
        if not process:
            signal.alarm(PATIENCE)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        self.ends[phase].append(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))


def phase_of(frame: Any) -> str:
    """What a training is about at a frame: the innermost of PHASES, else `else`."""
    while frame is not None:
        phase = PHASES.get((Path(frame.f_code.co_filename).name, frame.f_code.co_name))
        if phase:
            return phase
        frame = frame.f_back
    return "else"


def train_and_be_told(directory: Path) -> None:
    """As `train`, with a copy for LiteRT; writes `ends` of Told to the file ends.json."""
    os.chdir(directory)
    output = os.open("output", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    os.dup2(output, sys.stdout.fileno())
    os.dup2(output, sys.stderr.fileno())
    stop = Stop()
    told = Told(stop)
    stop.listen()
    sys.setprofile(told)
    code = main(["train", "--epochs", "1", "--minimum-accuracy", "0", "--source", "data"], stop=stop)
    sys.setprofile(None)
    Path("ends.json").write_text(json.dumps(told.ends))
    sys.exit(code)


def start(directory: Path) -> BaseProcess:
    (directory / "output").unlink(missing_ok=True)
    process = PROCESSES.Process(target=train, args=(directory,))
    process.start()
    return process


def wait_for(process: BaseProcess, directory: Path, text: str) -> None:
    """Wait until the process has printed a text."""
    while text not in printed(directory):
        assert process.exitcode is None, printed(directory)
        time.sleep(0.01)


def printed(directory: Path) -> str:
    path = directory / "output"
    return path.read_text() if path.exists() else ""


def weights(directory: Path) -> list[tuple[str, bytes]]:
    """The exported variables: dtype and bytes, in an order of their own, as Keras's archive numbers them by chance."""
    (version,) = (directory / "store" / "models").iterdir()
    _, content = read_directory(version)
    reader = tf.train.load_checkpoint(str(content / "saved_model" / "variables" / "variables"))
    arrays = [np.asarray(reader.get_tensor(name)) for name in reader.get_variable_to_shape_map() if "VARIABLE" in name]
    return sorted((f"{array.dtype}{array.shape}", array.tobytes()) for array in arrays)


@pytest.fixture
def directories(tmp_path: Path) -> tuple[Path, Path]:
    chance = random.Random(0)
    rows = [[chance.gauss(0, 1) for _ in range(4)] for _ in range(400)]
    lines = [json.dumps({"x": row, "label": "yes" if sum(row) > 0 else "no"}) for row in rows]
    for name in ("alone", "killed"):
        (tmp_path / name / "data").mkdir(parents=True)
        (tmp_path / name / "service.toml").write_text('[service]\nname = "under-test"\n')
        (tmp_path / name / "data" / "toy.jsonl").write_text("\n".join(lines))
    return tmp_path / "alone", tmp_path / "killed"


@pytest.mark.nightly
def test_told_to_stop_in_any_phase_it_has_stopped(directories: tuple[Path, Path]) -> None:
    directory, _ = directories
    process = PROCESSES.Process(target=train_and_be_told, args=(directory,))
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == 0, printed(directory)
    ends = json.loads((directory / "ends.json").read_text())
    assert ends.keys() == {*PHASES.values(), "else"}
    assert {code for codes in ends.values() for code in codes} == {75}
    assert sum(map(len, ends.values())) >= 200
    assert printed(directory).count("train: stopped; the same command resumes this run: ") >= 200


def test_killed_at_random_moments_it_ends_with_the_same_weights(directories: tuple[Path, Path]) -> None:
    alone, killed = directories
    done = start(alone)
    done.join(PATIENCE)
    assert done.exitcode == 0, printed(alone)

    # Seeded: the moments still vary with the machine, the mix of signals and of what they meet does not.
    chance = random.Random(1)
    signals = [signal.SIGTERM, signal.SIGKILL] * (KILLS // 2)
    chance.shuffle(signals)
    # 3 meet what comes before the first step, 9 the steps, and these for 0.2 s on average: a fast machine, at 20 ms an
    # epoch, still has some of the 150 left in the end.
    before, within = "train: on ", "loss="
    moments = [before] * 3 + [within] * 9
    chance.shuffle(moments)
    resumed = 0
    for number, moment in zip(signals, moments, strict=True):
        process = start(killed)
        try:
            wait_for(process, killed, moment)
            time.sleep(chance.uniform(0, 0.4))
            resumed += "resuming from a checkpoint" in printed(killed)
            assert process.pid
            os.kill(process.pid, number)
            # Batch kills what has not ended 30 s after SIGTERM; 20 s leave room for a slower store.
            process.join(20)
            assert process.exitcode == (75 if number == signal.SIGTERM else -signal.SIGKILL), printed(killed)
        finally:
            process.kill()
            process.join()
    assert resumed >= KILLS // 2, "most runs are killed after they went on from a checkpoint"

    last = start(killed)
    last.join(PATIENCE)
    assert last.exitcode == 0, printed(killed)
    assert "resuming from a checkpoint" in printed(killed)
    assert weights(killed) == weights(alone)
