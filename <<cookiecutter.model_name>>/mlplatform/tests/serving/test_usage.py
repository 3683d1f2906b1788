"""CPU and memory of the container, from files as the kernel writes them."""

import os
from pathlib import Path

import pytest

from mlplatform.serving.ghost.event_log import Usage
from mlplatform.serving.model import cpu

# Of Linux 6.1, cgroup v2, in a group with a quota of 1.5 cores in which 50 MB of files had been read; shortened.
CPU_STAT = """\
usage_usec {used}
user_usec 11730000
system_usec 80000
nr_periods 120
nr_throttled 0
throttled_usec 0
"""
MEMORY_STAT = """\
anon 104857600
file 52555776
inactive_anon 52875264
active_anon 4096
inactive_file 50090112
active_file 36864
"""
MEMORY_CURRENT = "158445568\n"


@pytest.fixture
def group(tmp_path: Path) -> Path:
    """A group of cgroup v2."""
    for name, content in {
        "cpu.max": "150000 100000\n",
        "cpu.stat": CPU_STAT.format(used=11_810_000),
        "memory.current": MEMORY_CURRENT,
        "memory.stat": MEMORY_STAT,
    }.items():
        (tmp_path / name).write_text(content)
    return tmp_path


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def test_a_containers_cpu_is_what_its_group_used_since_the_last_time(group: Path) -> None:
    usage = Usage(group)
    (group / "cpu.stat").write_text(CPU_STAT.format(used=14_310_000))
    event = usage.event(100)
    assert (event["of"], event["cpu_seconds"], event["requests"]) == ("container", 2.5, 100)
    assert usage.event(0)["cpu_seconds"] == 0


def test_a_containers_memory_is_its_working_set_without_files_that_can_be_let_go(group: Path) -> None:
    assert Usage(group).event(0)["memory_bytes"] == 158_445_568 - 50_090_112


def test_where_a_machine_has_no_group_of_v2_it_is_this_process_that_is_measured(tmp_path: Path) -> None:
    (tmp_path / "cpu.stat").write_text(CPU_STAT.format(used=11_810_000))
    usage = Usage(tmp_path)
    assert sum(i * i for i in range(300_000))
    event = usage.event(0)
    assert event["of"] == "process"
    assert 0 < event["cpu_seconds"] < 10
    assert event["memory_bytes"] > 10 << 20


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "1600000 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({}, 8),
    ],
)
def test_the_cores_are_those_of_the_quota_where_there_is_one(
    files: dict[str, str], cores: float, tmp_path: Path
) -> None:
    (tmp_path / "cpu").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert cpu.budget(tmp_path) == cores


def test_a_worker_has_a_thread_for_each_whole_core_and_one_at_least(group: Path) -> None:
    (group / "cpu.max").write_text("400000 100000\n")
    assert [cpu.threads_per_worker(workers, group) for workers in (1, 2, 8)] == [4, 2, 1]
