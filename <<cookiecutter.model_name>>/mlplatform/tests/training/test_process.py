"""How a signal ends the process that trains, wherever it arrives."""

import os
import signal
from collections.abc import Callable

import pytest

from mlplatform.contract.errors import ExitCode
from mlplatform.training.process import stoppable
from mlplatform.training.stopping import Stop, Stopped


def be_told_to_stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def at_once(stop: Stop) -> int:
    be_told_to_stop()
    return ExitCode.DONE


def within_native_code(stop: Stop) -> int:
    try:
        be_told_to_stop()
    except Stopped as error:
        # As pybind does with what a handler raises while C++ runs.
        raise RuntimeError("an error, REPLACED BY Stopped") from error
    return ExitCode.DONE


def where_an_error_is_explained(stop: Stop) -> int:
    try:
        be_told_to_stop()
    except Stopped:
        return ExitCode.FAILED
    return ExitCode.DONE


@pytest.mark.parametrize("run", [at_once, within_native_code, where_an_error_is_explained])
def test_a_signal_is_a_stop_wherever_it_arrives(run: Callable[[Stop], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert stoppable(run) == ExitCode.STOPPED
    assert capsys.readouterr().err.startswith("train: stopped; the same command resumes this run: ")


def test_what_fails_without_a_signal_is_no_stop() -> None:
    def fail(stop: Stop) -> int:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        stoppable(fail)
    assert stoppable(lambda stop: ExitCode.FAILED) == ExitCode.FAILED


def test_what_is_finished_when_the_signal_arrives_is_done() -> None:
    def finish(stop: Stop) -> int:
        with stop.deferred():
            be_told_to_stop()
        return ExitCode.DONE

    assert stoppable(finish) == ExitCode.DONE
