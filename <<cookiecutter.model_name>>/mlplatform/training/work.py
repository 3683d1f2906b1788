"""The directory for temporary files, `work`: what a run makes there goes with it or, if it was killed, later."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

# Told apart by it from what others keep there: it may be /tmp.
PREFIX = "training-"
DAY = 86_400.0


@contextmanager
def temporary(work: Path) -> Iterator[Path]:
    """An empty directory in `work`; removed afterwards, unless a signal ends the process."""
    with TemporaryDirectory(dir=work, prefix=PREFIX) as directory:
        yield Path(directory)


def sweep(work: Path) -> None:
    """Remove what runs that were killed left behind: what has not changed for a day, as no step is that slow."""
    for leftover in work.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if leftover.stat().st_mtime < time.time() - DAY:
                shutil.rmtree(leftover)
