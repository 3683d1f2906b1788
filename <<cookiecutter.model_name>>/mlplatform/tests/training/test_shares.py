"""Several machines check a source, each as a child of an array job; one makes the version, and reads no file again."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlplatform.cli import main
from mlplatform.tests.conftest import Bucket
from mlplatform.tests.training.conftest import PYTHONPATH, run

MACHINES = 3
FILES = 10


@pytest.fixture
def source(bucket: Bucket) -> str:
    """A source of some files in the bucket, of which two hold the same records."""
    for number in [*range(FILES), 0]:
        rows = ({"id": f"e{number}-{i}", "x": [i, number, 2, 3], "label": ["no", "yes"][i % 2]} for i in range(50))
        body = "".join(json.dumps(row) + "\n" for row in rows).encode()
        again = any(found.endswith(f"{number}.jsonl") for found in keys(bucket))
        key = f"source/{'again-' if again else ''}{number}.jsonl"
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=body)
    return f"s3://{bucket.name}/source"


def keys(bucket: Bucket) -> list[str]:
    return [found["Key"] for found in bucket.client.list_objects_v2(Bucket=bucket.name).get("Contents", [])]


def array(index: int) -> dict[str, str]:
    """What Batch tells a child of an array job."""
    return {"AWS_BATCH_JOB_ARRAY_INDEX": str(index), "AWS_BATCH_JOB_ARRAY_SIZE": str(MACHINES)}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is in a directory with settings."""
    (tmp_path / "service.toml").write_text('[service]\nname = "under-test"\n')
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("machine")
def test_each_file_is_read_by_one_machine_and_the_version_is_that_of_one_machine(
    bucket: Bucket, source: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["gather", "--source", source]) == 0
    alone = capfd.readouterr().out.split()[-1]
    monkeypatch.setenv("STORAGE_URL", "shared")
    before = len(bucket.faults.requests)
    with monkeypatch.context() as child:
        for index in range(MACHINES):
            for name, value in array(index).items():
                child.setenv(name, value)
            assert main(["train", "--source", source]) == 0
    assert not Path("shared/datasets").exists()
    assert main(["gather", "--source", source]) == 0
    assert capfd.readouterr().out.split()[-1] == alone
    read = [r for r in bucket.faults.requests[before:] if "GET" in r and ".jsonl" in r]
    assert len(read) == FILES


@pytest.mark.usefixtures("machine")
def test_what_a_machine_finds_wrong_is_told_when_all_have_checked(
    bucket: Bucket, source: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for key in ("source/bad.jsonl", "source/worse.jsonl"):
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=f'{{"id": "{key}"}}\n'.encode())
    with monkeypatch.context() as child:
        for index in range(MACHINES):
            for name, value in array(index).items():
                child.setenv(name, value)
            assert main(["gather", "--source", source]) == 0
    assert main(["gather", "--source", source]) == 3
    said = capfd.readouterr().err
    assert "gather: 2 records do not fit model.RECORD:\n  bad.jsonl row 1: " in said
    assert "  worse.jsonl row 1: " in said


@pytest.mark.nightly
def test_machines_that_are_killed_and_started_again_lead_to_the_version_of_one_machine(
    bucket: Bucket, source: str, tmp_path: Path
) -> None:
    settings = f'[service]\nname = "under-test"\n[storage]\nurl = "{bucket.url}"\n'
    directories = {name: tmp_path / name for name in ("alone", "last", *(f"machine-{i}" for i in range(MACHINES)))}
    for directory in directories.values():
        directory.mkdir()
        (directory / "service.toml").write_text(settings)
    alone = run(directories["alone"], "gather", "--source", source, STORAGE_URL="store")
    assert alone.returncode == 0, alone.stderr
    machines = [
        subprocess.Popen(
            [sys.executable, "-m", "mlplatform", "train", "--source", source],
            cwd=directories[f"machine-{index}"],
            env={**os.environ, "PYTHONPATH": PYTHONPATH, **array(index)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for index in range(MACHINES)
    ]
    try:
        # As soon as one of them writes, two die, wherever they are.
        while not any(key.startswith("store/parts/") for key in keys(bucket)):
            assert all(machine.poll() in (None, 0) for machine in machines)
            time.sleep(0.02)
        for machine in machines[:2]:
            machine.kill()
        assert machines[2].wait(300) == 0
    finally:
        for machine in machines:
            machine.kill()
            machine.wait()
    for index in range(2):
        again = run(directories[f"machine-{index}"], "train", "--source", source, **array(index))
        assert again.returncode == 0, again.stderr
    last = run(directories["last"], "gather", "--source", source)
    assert last.returncode == 0, last.stderr
    assert f"validate: {FILES} of {FILES} files were checked before" in last.stdout
    assert last.stdout.split()[-1] == alone.stdout.split()[-1]
