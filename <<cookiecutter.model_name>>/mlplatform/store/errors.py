"""The errors of a store, and errors of the operating system as sentences."""

import errno
import os
from pathlib import Path


class StorageError(Exception):
    """The store cannot do what it should; the message says what and where, in one sentence."""


class MissingKeyError(StorageError):
    """There is nothing under this key."""


def local_error(path: Path, error: OSError, otherwise: str = "") -> StorageError:
    """An error of the operating system as a sentence with the remedy; `otherwise`: another remedy to add."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        reason = "a file stands where a directory must be"
    remedy = {
        errno.ENOSPC: "free some space",
        errno.EDQUOT: "free some space",
        errno.EACCES: "check who owns it",
        errno.EPERM: "check who owns it",
    }.get(error.errno or 0)
    return StorageError(f"{path}: {reason.lower()}" + (f"; {remedy}{otherwise}" if remedy else ""))
