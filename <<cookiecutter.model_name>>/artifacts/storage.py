"""Storage: the same few operations on a directory and on S3.

Keys are relative POSIX paths below the root. A key is always either absent or whole: nobody ever reads half a file.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

FORMS = "a directory, file:///directory or s3://bucket/prefix"


class StorageError(Exception):
    """The store cannot do what was asked; the message says what and where, in one sentence."""


class MissingKeyError(StorageError):
    """There is nothing under this key."""


class Storage(Protocol):
    """A store of immutable or atomically replaced files."""

    @property
    def url(self) -> str:
        """The root, as a URL or directory."""

    def read(self, key: str) -> bytes:
        """Content of a key. Raises MissingKeyError."""

    def write(self, key: str, content: bytes) -> None:
        """Create or replace a key, atomically."""

    def create(self, key: str, content: bytes) -> bool:
        """Create a key unless it exists; of several callers at once exactly one gets True."""

    def upload(self, path: Path, key: str) -> None:
        """Create or replace a key with the content of a local file, atomically."""

    def download(self, key: str, path: Path) -> None:
        """Write the content of a key to a local file. Raises MissingKeyError."""

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys that start with `prefix`, which ends in a slash, in order."""

    def delete(self, key: str) -> None:
        """Remove a key; no error if it is not there."""

    def local_path(self, key: str) -> Path | None:
        """Where the key lies as a local file or directory, or None if it has to be downloaded."""


class LocalStorage:
    """Storage in a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def url(self) -> str:
        """The directory as a path."""
        return str(self.root)

    def read(self, key: str) -> bytes:
        """See Storage."""
        with self._told(key):
            return (self.root / key).read_bytes()

    def write(self, key: str, content: bytes) -> None:
        """See Storage."""
        with self._told(key), self._temporary(key) as temporary:
            temporary.write_bytes(content)
            self._commit(temporary, key)

    def create(self, key: str, content: bytes) -> bool:
        """See Storage."""
        with self._told(key), self._temporary(key) as temporary:
            temporary.write_bytes(content)
            _sync(temporary)
            try:
                # A hard link, unlike a rename, fails when the name is taken: that decides between two writers.
                os.link(temporary, self.root / key)
            except FileExistsError:
                return False
            _sync((self.root / key).parent)
            return True

    def upload(self, path: Path, key: str) -> None:
        """See Storage."""
        with self._told(key), self._temporary(key) as temporary:
            shutil.copyfile(path, temporary)
            self._commit(temporary, key)

    def download(self, key: str, path: Path) -> None:
        """See Storage."""
        with self._told(key):
            shutil.copyfile(self.root / key, path)

    def keys(self, prefix: str) -> Iterator[str]:
        """See Storage."""
        with self._told(prefix):
            found = (path for path in (self.root / prefix).rglob("*") if path.is_file())
            names = (path.relative_to(self.root).as_posix() for path in found if not path.name.startswith(".partial-"))
            yield from sorted(names)

    def delete(self, key: str) -> None:
        """See Storage."""
        with self._told(key):
            (self.root / key).unlink(missing_ok=True)

    def local_path(self, key: str) -> Path | None:
        """See Storage."""
        return self.root / key

    def _commit(self, temporary: Path, key: str) -> None:
        _sync(temporary)
        temporary.replace(self.root / key)
        _sync((self.root / key).parent)

    @contextmanager
    def _temporary(self, key: str) -> Iterator[Path]:
        """A file beside the key, so that renaming it stays within one file system."""
        directory = (self.root / key).parent
        directory.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".partial-", dir=directory)
        os.close(descriptor)
        # mkstemp makes it private; what is published is read by others: the serving image's user, a colleague.
        temporary = Path(name)
        temporary.chmod(0o644)
        try:
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def _told(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise MissingKeyError(f"{self.root / key}: not there") from error
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            hint = {
                errno.ENOSPC: "; free some space or set STORAGE_URL to another place",
                errno.EACCES: "; check who owns it or set STORAGE_URL to another place",
            }.get(error.errno or 0, "")
            raise StorageError(f"{self.root / key}: {reason.lower()}{hint}") from error


def open_storage(url: str) -> Storage:
    """The storage behind a URL: a directory, file:///directory or s3://bucket/prefix.

    Raises StorageError for any other form.
    """
    if "://" not in url and not url.startswith(("file:", "s3:")):
        return LocalStorage(Path(url).expanduser().absolute())
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
        return LocalStorage(Path(unquote(parts.path)))
    raise StorageError(f"storage URL {url!r}: must be {FORMS}")


def _sync(path: Path) -> None:
    """Force a file or directory to disk, so that what was published is still there after a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
