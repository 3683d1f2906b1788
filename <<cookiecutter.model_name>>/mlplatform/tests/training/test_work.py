"""Temporary files: gone with the run that made them, or with a later one."""

import os
import time
from pathlib import Path

from mlplatform.training.work import sweep, temporary


def test_what_a_killed_run_left_behind_goes_after_a_day_and_nothing_else(tmp_path: Path) -> None:
    for name, days in (("training-old", 2.0), ("training-new", 0.5), ("tmp-of-another", 9.0)):
        (tmp_path / name / "model").mkdir(parents=True)
        then = time.time() - days * 86_400
        os.utime(tmp_path / name, (then, then))
    with temporary(tmp_path) as directory:
        sweep(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {"training-new", "tmp-of-another", directory.name}
    assert {path.name for path in tmp_path.iterdir()} == {"training-new", "tmp-of-another"}
