"""The spool: what a process writes arrives in the store, once and whole, also when it was killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlplatform.contract import events
from mlplatform.contract.events import Process
from mlplatform.ghost.spool import SpoolWriter, ship
from mlplatform.store.storage import LocalStorage, Storage, StorageError, open_storage
from mlplatform.tests.conftest import ROOT, Bucket

WHO = Process("digits", "live", "aaaa", "pod-1", "pod-1-7")
LINE = b'{"kind": "prediction", "at": 1.0, "id": "r"}\n'


def written(directory: Path, most: int = 1 << 20) -> SpoolWriter:
    return SpoolWriter(directory, WHO, most)


def segments(storage: Storage) -> list[events.Segment]:
    return [events.read(storage, key) for key in storage.keys("events/")]


def test_events_of_a_process_that_ends_well_are_shipped_with_its_counters(tmp_path: Path) -> None:
    writer = written(tmp_path / "spool")
    writer.counters.add("recorded", 2)
    writer.write(LINE * 2, 2)
    writer.close()
    assert ship(LocalStorage(tmp_path / "store"), tmp_path / "spool").segments == 1
    (segment,) = segments(LocalStorage(tmp_path / "store"))
    assert segment.process == WHO
    assert [event["kind"] for event in segment.events] == ["prediction", "prediction", "counters"]
    assert segment.events[-1]["events"] == {"recorded": 2, "written": 2, "dropped": 0}
    assert list((tmp_path / "spool").iterdir()) == []


COLUMNS = (
    b'{"kind":"predictions","clock":1000.0,"id":["a","b","c"],"started":[1.0,2.0,3.0],"finished":[1.125,2.5,3.25],'
    b'"status":[200,503,200],"rows":[2,0,1],"labels":["cat","dog","owl"],"scores":[0.75,0.5,0.123456789],'
    b'"mirrored":[true,false,false],"body":["eyJ9","",""]}\n'
)


def test_a_line_of_columns_is_shipped_as_the_events_that_it_stands_for(tmp_path: Path) -> None:
    writer = written(tmp_path / "spool")
    writer.write(COLUMNS, 3)
    writer.close()
    ship(LocalStorage(tmp_path / "store"), tmp_path / "spool")
    (segment,) = segments(LocalStorage(tmp_path / "store"))
    first = {"kind": "prediction", "at": 1001.125, "id": "a", "status": 200, "ms": 125.0, "labels": ["cat", "dog"]}
    assert segment.events[:3] == (
        first | {"scores": [0.75, 0.5], "mirrored": True, "body": "eyJ9"},
        {"kind": "prediction", "at": 1002.5, "id": "b", "status": 503, "ms": 500.0},
        {"kind": "prediction", "at": 1003.25, "id": "c", "status": 200, "ms": 250.0, "labels": ["owl"],
         "scores": [0.123457]},
    )  # fmt: skip


def test_some_requests_of_a_line_of_columns_are_the_same_events_without_bodies() -> None:
    columns = json.loads(COLUMNS)
    first, _, last = events.rows(columns)
    del first["body"], first["mirrored"]
    assert [*events.rows(events.chosen(columns, [0, 2]))] == [first, last]


@pytest.mark.parametrize("damaged", [COLUMNS[:-9], COLUMNS.replace(b'"id":', b'"ids":'), b'{"kind":"predictions"}'])
def test_a_damaged_line_of_columns_keeps_no_other_from_being_shipped(tmp_path: Path, damaged: bytes) -> None:
    writer = written(tmp_path / "spool")
    writer.write(damaged.rstrip() + b"\n" + LINE, 2)
    writer.close()
    ship(LocalStorage(tmp_path / "store"), tmp_path / "spool")
    (segment,) = segments(LocalStorage(tmp_path / "store"))
    assert [event["id"] for event in segment.events if event["kind"] == "prediction"] == ["r"]


def test_a_segment_being_written_is_left_alone(tmp_path: Path) -> None:
    writer = written(tmp_path / "spool")
    writer.write(LINE, 1)
    shipped = ship(LocalStorage(tmp_path / "store"), tmp_path / "spool")
    assert (shipped.segments, shipped.killed) == (0, ())
    writer.close()


def test_old_segments_are_finished_and_new_ones_begun(tmp_path: Path) -> None:
    writer = written(tmp_path / "spool")
    for _ in range(2):
        writer.write(LINE, 1)
        writer.roll(time.monotonic() + 60)
    writer.close()
    ship(LocalStorage(tmp_path / "store"), tmp_path / "spool")
    assert len(segments(LocalStorage(tmp_path / "store"))) == 3


def test_what_a_killed_process_left_is_shipped_and_what_it_lost_is_told(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from mlplatform.contract.events import Process; "
        "from mlplatform.ghost.spool import SpoolWriter; "
        f"w = SpoolWriter(Path(sys.argv[1]), Process(*{tuple(vars(WHO).values())!r}), 1 << 20); "
        f"w.counters.add('recorded', 5); w.write({LINE!r} * 3, 3); w._open().write(b'cut sho'); "
        "print('written', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "spool")]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    shipped = ship(LocalStorage(tmp_path / "store"), tmp_path / "spool")
    assert [(name, event["events"]) for name, event in shipped.killed] == [
        ("pod-1-7", {"recorded": 5, "written": 3, "dropped": 0})
    ]
    (segment,) = segments(LocalStorage(tmp_path / "store"))
    assert (len(segment.events), segment.events[-1]["killed"], segment.damaged) == (4, True, 0)
    assert ship(LocalStorage(tmp_path / "store"), tmp_path / "spool").killed == ()


def test_a_process_that_is_killed_as_it_begins_keeps_no_other_from_being_shipped(tmp_path: Path) -> None:
    program = (
        "import fcntl, os, sys; from pathlib import Path; from mlplatform.contract.events import Process; "
        "from mlplatform.ghost.spool import SpoolWriter; fcntl.flock = lambda *_: os._exit(9); "
        'SpoolWriter(Path(sys.argv[1]), Process("digits", "live", "aaaa", "pod-1", "pod-1-6"), 1 << 20)'
    )
    command = [sys.executable, "-c", program, str(tmp_path / "spool")]
    assert subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode == 9
    written(tmp_path / "spool").close()
    assert ship(LocalStorage(tmp_path / "store"), tmp_path / "spool").segments == 1


def test_beyond_its_bound_a_spool_takes_no_more_and_counts(tmp_path: Path) -> None:
    writer = written(tmp_path / "spool", most=8192)
    for _ in range(200):
        writer.write(LINE, 1)
    dropped = writer.counters["dropped"]
    writer.close()
    assert 0 < dropped < 200
    assert sum(path.stat().st_size for path in (tmp_path / "spool").iterdir()) < 8192


def test_segments_wait_until_the_store_takes_them(tmp_path: Path, bucket: Bucket) -> None:
    writer = written(tmp_path / "spool")
    writer.write(LINE, 1)
    writer.close()
    with pytest.raises(StorageError):
        ship(open_storage("s3://no-such-bucket-anywhere/store"), tmp_path / "spool")
    assert ship(open_storage(bucket.url), tmp_path / "spool").segments == 1
    (segment,) = segments(open_storage(bucket.url))
    assert segment.events[0]["id"] == "r"


def test_events_of_a_newer_format_are_refused() -> None:
    with pytest.raises(events.EventsError, match="events of format 2; this code reads 1"):
        events.read_header(b'{"kind": "process", "format": 2, "service": "", "role": "", "version": "", "host": "", '
                           b'"process": ""}', "here")  # fmt: skip
