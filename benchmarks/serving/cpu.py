"""Processor time of a server of gunicorn: its master, and the workers that this one has started."""

from pathlib import Path


def processes(pid: int) -> list[str]:
    """Ids of a master and its workers; what a worker has started is not among them."""
    return [str(pid), *Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cpu_seconds(pid: int) -> float:
    """Processor time of a master and its workers so far, to the nanosecond; /proc/.../stat has hundredths."""
    threads = [path for each in processes(pid) for path in Path(f"/proc/{each}/task").iterdir()]
    return sum(int((path / "schedstat").read_text().split()[0]) for path in threads) / 1e9
