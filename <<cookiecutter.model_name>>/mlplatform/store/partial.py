"""Files that are still being written: they lie beside their place under another name, and are renamed when whole."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL = ".partial-"


@contextmanager
def partial_file(path: Path) -> Iterator[Path]:
    """An empty file beside `path`, so that renaming it to `path` stays within one file system; removed afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    descriptor, name = tempfile.mkstemp(prefix=PARTIAL, dir=path.parent)
    os.close(descriptor)
    partial = Path(name)
    try:
        # mkstemp makes it private, but others read what is published: the serving image's user, a colleague.
        partial.chmod(0o644)
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _sweep(directory: Path) -> None:
    """Remove what killed writers left behind: files over a day old, as no write takes that long."""
    yesterday = time.time() - 86_400
    for leftover in directory.glob(f"{PARTIAL}*"):
        with suppress(FileNotFoundError):
            if leftover.stat().st_mtime < yesterday:
                leftover.unlink()
