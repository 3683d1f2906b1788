"""Checkpoints: whole or not there, two generations, and a damaged one is passed over."""

import errno
import logging
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from mlplatform.store.storage import LocalStorage
from mlplatform.training.checkpoints import Checkpoint, Checkpoints, Position


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(LocalStorage(tmp_path / "store"), "r1")


def checkpoint(step: int) -> Checkpoint:
    position = Position(epoch=2, step=step, history=[{"loss": 0.5}], best_loss=0.25, best_epoch=1, seconds=1.5)
    return Checkpoint(position, [np.full((2, 3), step, np.float32), np.array(step)], [np.array([7, 8], np.uint32)])


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "store" / "runs" / "r1" / "checkpoints").iterdir())


def test_before_the_first_there_is_none(checkpoints: Checkpoints) -> None:
    assert checkpoints.newest() is None


def test_what_was_saved_comes_back(checkpoints: Checkpoints) -> None:
    saved = checkpoint(5)
    checkpoints.save_within(60, 5, saved)
    found = checkpoints.newest()
    assert found is not None
    assert found.position == saved.position
    for before, after in zip([*saved.variables, *saved.best], [*found.variables, *found.best], strict=True):
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)


def test_the_newest_two_are_kept(checkpoints: Checkpoints, tmp_path: Path) -> None:
    for step in (9, 10, 11):
        checkpoints.save_within(60, step, checkpoint(step))
    assert [int(path.name.split("-")[0]) for path in files(tmp_path)] == [10, 11]


@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], lambda content: b"x" + content[1:]])
def test_a_damaged_one_is_recognised_and_the_one_before_it_used(
    checkpoints: Checkpoints, tmp_path: Path, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints.save_within(60, 1, checkpoint(1))
    checkpoints.save_within(60, 2, checkpoint(2))
    newest = files(tmp_path)[-1]
    assert callable(damage)
    newest.write_bytes(damage(newest.read_bytes()))
    found = checkpoints.newest()
    assert found is not None
    assert found.position.step == 1
    assert f"{newest.name} is damaged; trying the one before it" in caplog.text


def test_a_checkpoint_of_another_run_is_not_seen(checkpoints: Checkpoints, tmp_path: Path) -> None:
    checkpoints.save_within(60, 1, checkpoint(1))
    assert Checkpoints(LocalStorage(tmp_path / "store"), "r2").newest() is None


def test_a_full_disk_costs_the_checkpoint_and_not_the_run(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    checkpoints.save_within(60, 1, checkpoint(1))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        checkpoints.save_within(60, 2, checkpoint(2))
    assert "no space left on device" in caplog.text
    assert caplog.records[-1].levelno == logging.WARNING
    found = checkpoints.newest()
    assert found is not None
    assert found.position.step == 1


def test_a_store_that_hangs_does_not_hold_up_who_is_told_to_stop(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(checkpoints.storage, "write", lambda key, content: released.wait(10))
    assert not checkpoints.save_within(0.05, 1, checkpoint(1))
    assert not checkpoints.save_within(0.05, 2, checkpoint(2))
    assert not checkpoints.save(3, checkpoint(3))
    released.set()


def test_cleared_checkpoints_are_gone(checkpoints: Checkpoints, tmp_path: Path) -> None:
    checkpoints.save_within(60, 1, checkpoint(1))
    checkpoints.clear()
    assert files(tmp_path) == []
