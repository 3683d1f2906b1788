"""How a signal ends a command, wherever it arrives."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlplatform.contract.errors import ExitCode
from mlplatform.contract.stopping import Stop, Stopped, carry_out
from mlplatform.tests.conftest import ROOT

BEFORE = """
import ctypes, os, signal
from mlplatform.contract.stopping import Stop, carry_out

def told():
    os.kill(os.getpid(), signal.SIGTERM)

def swallowing():
    try:
        told()
    except BaseException:
        pass

def from_c(one, other):
    told()
    return 0

def sort_in_c():
    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(from_c)
    ctypes.CDLL(None).qsort((ctypes.c_int * 2)(2, 1), 2, 4, compare)

stop = Stop("train")
"""


def end(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEFORE + script], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )


def be_told() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("place", ["told", "swallowing", "sort_in_c"])
def test_where_nothing_can_be_lost_it_ends_the_process_at_once(place: str) -> None:
    done = end(f"print('before'); carry_out(stop, lambda: [{place}(), print('after'), 0][-1])")
    assert done.returncode == ExitCode.STOPPED
    assert done.stdout == "before\n"
    assert done.stderr.startswith("train: stopped; the same command resumes this run: ")
    assert done.stderr.count("\n") == 1


def test_what_has_to_be_done_before_the_end_is_done() -> None:
    done = end("""
with stop.before_the_end(lambda: print("counted")), stop.before_the_end(lambda: 1 / 0):
    carry_out(stop, told)
""")
    assert (done.returncode, done.stdout) == (ExitCode.STOPPED, "counted\n")


def test_where_something_can_be_lost_the_work_goes_on_to_the_next_safe_point(
    capfd: pytest.CaptureFixture[str],
) -> None:
    stop = Stop("gather")
    done = []

    def work() -> int:
        with stop.deferred():
            be_told()
            done.append("saved")
            stop.obey()
            done.append("more")
        return ExitCode.DONE

    assert carry_out(stop, work) == ExitCode.STOPPED
    assert done == ["saved"]
    assert capfd.readouterr().err.startswith("gather: stopped; the same command resumes this run: ")


@pytest.mark.parametrize("failure", [RuntimeError("an error, REPLACED BY Stopped"), Stopped()])
def test_whatever_is_raised_after_a_stop_was_asked_for_is_the_stop(failure: BaseException) -> None:
    stop = Stop()

    def fail() -> int:
        with stop.deferred():
            be_told()
            raise failure

    assert carry_out(stop, fail) == ExitCode.STOPPED


@pytest.mark.parametrize(
    ("finished", "code"),
    [
        (ExitCode.DONE, ExitCode.DONE),
        (ExitCode.GATE_CLOSED, ExitCode.GATE_CLOSED),
        (ExitCode.FAILED, ExitCode.STOPPED),
        (ExitCode.REFUSED, ExitCode.STOPPED),
    ],
)
def test_what_is_finished_when_the_signal_arrives_stands(finished: ExitCode, code: ExitCode) -> None:
    stop = Stop()

    def finish() -> int:
        with stop.deferred():
            be_told()
        return finished

    assert carry_out(stop, finish) == code


def test_what_fails_without_a_signal_is_no_stop() -> None:
    def fail() -> int:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        carry_out(Stop(), fail)
    assert carry_out(Stop(), lambda: ExitCode.FAILED) == ExitCode.FAILED


def test_a_training_listens_before_it_has_imported_anything_that_takes_time(tmp_path: Path) -> None:
    # The first package of others that is imported: it is told to stop within that.
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "mlplatform", "train"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == ExitCode.STOPPED, done.stderr
    assert done.stderr.startswith("train: stopped; ")
