"""Builds of a model with steps: what is killed goes on, and several machines make the version of one."""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

import model
from mlplatform.cli import main
from mlplatform.data import parts
from mlplatform.data.steps import Step
from mlplatform.tests.training.test_kill import PROCESSES

FILES = 12
ROWS = 10
HELD = "f7-3"


def halves(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Two records of one, written down in the file `asked`; where there is a file `hold`, HELD takes for ever."""
    with Path("asked").open("a") as file:
        file.write(f"{record['id']}\n")
    while record["id"] == HELD and Path("hold").exists():
        time.sleep(0.01)
    return [{"x": record["y"][at : at + 4], "label": record["label"]} for at in (0, 4)]


def sources(directory: Path) -> None:
    (directory / "service.toml").write_text('[service]\nname = "under-test"\n')
    (directory / "data").mkdir()
    for file in range(FILES):
        rows = [
            {"id": f"f{file}-{row}", "y": [file, row, *range(6)], "label": ("no", "yes")[row % 2]}
            for row in range(ROWS)
        ]
        path = directory / "data" / f"{file:02}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def gather(directory: Path, *arguments: str) -> None:
    """Be `python -m mlplatform gather` in a directory, with the steps, two files a part, and output to a file there."""
    os.chdir(directory)
    output = os.open("output", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    os.dup2(output, sys.stdout.fileno())
    os.dup2(output, sys.stderr.fileno())
    model.__dict__["STEPS"] = (Step(halves, 1),)
    parts.PART_FILES = 2
    sys.exit(main(["gather", "--source", "data", *arguments]))


def started(directory: Path) -> BaseProcess:
    process = PROCESSES.Process(target=gather, args=(directory,))
    process.start()
    return process


def asked(directory: Path) -> Sequence[str]:
    path = directory / "asked"
    return path.read_text().split() if path.exists() else []


def built(directory: Path) -> str:
    """The version of a build that is left alone."""
    process = started(directory)
    process.join(300)
    assert process.exitcode == 0, (directory / "output").read_text()
    return (directory / "output").read_text().split()[-1]


def test_a_build_that_is_killed_goes_on_with_the_parts_that_are_there(tmp_path: Path) -> None:
    killed, alone = tmp_path / "killed", tmp_path / "alone"
    for directory in (killed, alone):
        directory.mkdir()
        sources(directory)
    (killed / "hold").touch()
    process = started(killed)
    while HELD not in asked(killed):
        assert process.exitcode is None, (killed / "output").read_text()
        time.sleep(0.01)
    process.kill()
    process.join()
    (killed / "hold").unlink()
    before = set(asked(killed))
    (killed / "asked").unlink()
    version = built(killed)
    # The files of the part that was not complete, and those after it.
    assert {int(name[1:].split("-")[0]) for name in asked(killed)} == set(range(6, FILES))
    assert {f"f{file}-{row}" for file in range(6) for row in range(ROWS)} < before
    assert version == built(alone)


def test_machines_that_check_a_share_each_make_the_version_of_one_and_apply_no_step_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    sources(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model, "STEPS", (Step(halves, 1),), raising=False)
    with monkeypatch.context() as child:
        for index in range(3):
            child.setenv("AWS_BATCH_JOB_ARRAY_INDEX", str(index))
            child.setenv("AWS_BATCH_JOB_ARRAY_SIZE", "3")
            assert main(["train", "--source", "data"]) == 0
    before = Counter(asked(tmp_path))
    assert len(before) == FILES * ROWS
    assert main(["gather", "--source", "data"]) == 0
    version = capfd.readouterr().out.split()[-1]
    assert Counter(asked(tmp_path)) == before
    monkeypatch.setenv("STORAGE_URL", "alone")
    assert main(["gather", "--source", "data"]) == 0
    assert capfd.readouterr().out.split()[-1] == version


def test_an_exception_names_the_step_the_file_and_the_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    sources(tmp_path)
    (tmp_path / "data" / "wrong.jsonl").write_text('{"id": "a", "y": [1], "label": "no"}\n{"id": "b", "label": "no"}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model, "STEPS", (Step(halves, 1),), raising=False)
    assert main(["gather", "--source", "data"]) == 3
    said = capfd.readouterr().err
    assert "wrong.jsonl row 1: x: has shape (1,), the model takes (4,)" in said
    assert "wrong.jsonl row 2: step 'halves' raises KeyError: 'y'" in said
    assert "a step of model.STEPS is called again once its version is another" in said


def test_what_are_no_steps_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    sources(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model, "STEPS", (halves,), raising=False)
    assert main(["gather", "--source", "data"]) == 2
    assert "model.STEPS is " in capfd.readouterr().err
    assert not (tmp_path / "store" / "parts").exists()
