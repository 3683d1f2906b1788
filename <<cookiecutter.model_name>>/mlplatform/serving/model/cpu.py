"""How much CPU this container may use. TensorFlow and os.cpu_count() see the host's cores, not the quota."""

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def budget(cgroup: Path = CGROUP) -> float:
    """Cores available: the smaller of CPU affinity and cgroup quota (v2 or v1), as a fraction of cores."""
    affinity = float(len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else float(os.cpu_count() or 1)
    return min(affinity, _quota(cgroup) or affinity)


def threads_per_worker(workers: int, cgroup: Path = CGROUP) -> int:
    """Threads for one model call of one worker, at least 1: more of them than cores are throttled, not faster."""
    return max(1, int(budget(cgroup)) // workers)


def _quota(cgroup: Path) -> float | None:
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if quota == "max" or int(quota) <= 0:
        return None
    return int(quota) / int(period)
