"""The container beside a server: it lives on whatever becomes of the process that ships events."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlplatform.contract.events import Process
from mlplatform.ghost.keep_shipping import ENDED, MOST_BYTES
from mlplatform.ghost.spool import SEGMENT_BYTES, SpoolWriter
from mlplatform.store.storage import LocalStorage
from mlplatform.tests.conftest import ROOT

WHO = Process("digits", "live", "aaaa", "pod-1", "pod-1-7")
LINE = b'{"kind": "prediction", "at": 1.0, "id": "r"}\n'
LONGEST_SECONDS = 120


@contextmanager
def keeping(directory: Path, store: str) -> Iterator[subprocess.Popen[str]]:
    """The container's first process, from whose errors lines can be read."""
    command = [sys.executable, "-m", "mlplatform.ghost.keep_shipping", str(directory / "spool")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "STORAGE_URL": store}
    with subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def child(process: subprocess.Popen[str]) -> int:
    """The process that ships, as soon as there is one."""
    end = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < end:
        if children := Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            return int(children[0])
        time.sleep(0.02)
    raise AssertionError("no process that ships")


def said(process: subprocess.Popen[str], beginning: str) -> str:
    """The next line with this beginning; lines before it are skipped."""
    assert process.stderr
    for line in process.stderr:
        if line.startswith(beginning):
            return line.strip()
    raise AssertionError(f"it ended, with {process.wait()}, and never said {beginning!r}")


def test_a_process_that_is_killed_is_started_again_and_ships_what_is_left(tmp_path: Path) -> None:
    store = LocalStorage(tmp_path / "store")
    with keeping(tmp_path, str(tmp_path / "store")) as process:
        for wait in ("1", "2"):
            os.kill(child(process), signal.SIGKILL)
            assert said(process, ENDED) == f"{ENDED} by signal 9; started again in {wait} s"
        writer = SpoolWriter(tmp_path / "spool", WHO, 1 << 20)
        writer.write(LINE, 1)
        writer.close()
        child(process)
        process.terminate()
        assert process.wait(LONGEST_SECONDS) == 0
    assert len(list(store.keys("events/"))) == 1


def test_a_setting_that_is_wrong_does_not_end_the_container_and_is_said(tmp_path: Path) -> None:
    with keeping(tmp_path, "gs://bucket/prefix") as process:
        assert "storage URL 'gs://bucket/prefix': must be" in said(process, "error:")
        assert said(process, ENDED) == f"{ENDED} with exit code 2; started again in 1 s"
        assert process.poll() is None


def test_the_largest_segment_is_shipped_within_the_memory_that_the_process_has(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "spool", WHO, 64 << 20)
    columns = b'{"kind":"predictions","clock":1000.0,"id":%s,"started":%s,"finished":%s,"status":%s,"rows":%s}\n'
    count = 512
    numbers = [b"[%s]" % b",".join([number] * count) for number in (b"1.25", b"1.5", b"200", b"0")]
    line = columns % (b"[%s]" % b",".join([b'"0123456789abcdef0123456789abcdef"'] * count), *numbers)
    for _ in range(SEGMENT_BYTES // len(line) + 1):
        writer.write(line, count)
    writer.close()
    limited = f"import resource, sys; resource.setrlimit(resource.RLIMIT_DATA, ({MOST_BYTES}, {MOST_BYTES})); "
    run = limited + "from mlplatform.cli import main; sys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "STORAGE_URL": str(tmp_path / "store")}
    command = [sys.executable, "-c", run, "ship-events", str(tmp_path / "spool"), "--once"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(LocalStorage(tmp_path / "store").keys("events/"))) == 1
