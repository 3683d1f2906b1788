"""Storage: the same few operations on a directory and on S3.

Keys are relative POSIX paths below the root. A key is always either absent or whole: nobody ever reads half a file.
"""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

FORMS = "a directory, file:///directory or s3://bucket/prefix"
# Parts of a prefix are taken as they stand; only what a directory would read otherwise is refused.
S3_URL = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<prefix>(/(?!\.{0,2}(/|$))[^/\x00-\x1f]+)*)/?"
)
PARTIAL = ".partial-"


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

    def replace(self, key: str, content: bytes, identity: str | None) -> bool:
        """Replace a key if its content has this identity still, or create it if None was there; else False.

        Of several callers of `replace` at once that give one identity exactly one gets True.
        """

    def upload(self, path: Path, key: str) -> None:
        """Create or replace a key with the content of a local file, atomically."""

    def download(self, key: str, path: Path) -> None:
        """Create or replace a local file with the content of a key, atomically. Raises MissingKeyError."""

    def exists(self, key: str) -> bool:
        """Whether the key is there; its content is not read."""

    def identity(self, key: str) -> str:
        """Text that changes when the content of the key changes. Raises MissingKeyError.

        The same content elsewhere may have another one, except in directories: there it is the SHA-256.
        """

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys that start with `prefix`, in order; it ends in a slash or is empty."""

    def identities(self, prefix: str, endings: tuple[str, ...] = ("",)) -> Iterator[tuple[str, str]]:
        """Those keys that end in one of `endings`, with their identities; on S3 a thousand keys are one request."""

    def directories(self, prefix: str) -> Iterator[str]:
        """The names directly below `prefix` that have keys below them, in order; it ends in a slash or is empty."""

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
        with self._told(key), partial_file(self.root / key) as partial:
            partial.write_bytes(content)
            self._commit(partial, key)

    def create(self, key: str, content: bytes) -> bool:
        """See Storage."""
        with self._told(key), partial_file(self.root / key) as partial:
            partial.write_bytes(content)
            _sync(partial)
            try:
                # A hard link, unlike a rename, fails when the name is taken: that decides between two writers.
                os.link(partial, self.root / key)
            except FileExistsError:
                return False
            _sync((self.root / key).parent)
            return True

    def replace(self, key: str, content: bytes, identity: str | None) -> bool:
        """See Storage."""
        if identity is None:
            return self.create(key, content)
        with self._told(key), (self.root / key).open("rb") as current:
            # Who held the lock before may have put another file in this one's place: then its name is not this file's.
            fcntl.flock(current, fcntl.LOCK_EX)
            if self.identity(key) != identity or not os.path.samestat(
                os.fstat(current.fileno()), (self.root / key).stat()
            ):
                return False
            self.write(key, content)
            return True

    def upload(self, path: Path, key: str) -> None:
        """See Storage."""
        with self._told(key), partial_file(self.root / key) as partial:
            shutil.copyfile(path, partial)
            self._commit(partial, key)

    def download(self, key: str, path: Path) -> None:
        """See Storage."""
        with self._told(key), partial_file(path) as partial:
            shutil.copyfile(self.root / key, partial)
            partial.replace(path)

    def exists(self, key: str) -> bool:
        """See Storage."""
        with self._told(key):
            return (self.root / key).is_file()

    def identity(self, key: str) -> str:
        """See Storage."""
        with self._told(key), (self.root / key).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def keys(self, prefix: str) -> Iterator[str]:
        """See Storage."""
        with self._told(prefix):
            yield from sorted(path.relative_to(self.root).as_posix() for path in _files(self.root / prefix))

    def identities(self, prefix: str, endings: tuple[str, ...] = ("",)) -> Iterator[tuple[str, str]]:
        """See Storage."""
        return ((key, self.identity(key)) for key in self.keys(prefix) if key.endswith(endings))

    def directories(self, prefix: str) -> Iterator[str]:
        """See Storage."""
        with self._told(prefix):
            below = (self.root / prefix).iterdir() if (self.root / prefix).is_dir() else ()
            yield from sorted(path.name for path in below if path.is_dir() and any(True for _ in _files(path)))

    def delete(self, key: str) -> None:
        """See Storage."""
        with self._told(key):
            (self.root / key).unlink(missing_ok=True)

    def local_path(self, key: str) -> Path | None:
        """See Storage."""
        return self.root / key

    def _commit(self, partial: Path, key: str) -> None:
        _sync(partial)
        partial.replace(self.root / key)
        _sync((self.root / key).parent)

    @contextmanager
    def _told(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise MissingKeyError(f"{self.root / key}: not there") from error
        except OSError as error:
            raise local_error(self.root / key, error, " or set STORAGE_URL to another place") from error


def local_error(path: Path, error: OSError, otherwise: str = "") -> StorageError:
    """What the operating system says of a file, as a sentence; `otherwise`: what else would help."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        reason = "a file stands where a directory must be"
    mend = {
        errno.ENOSPC: "free some space",
        errno.EDQUOT: "free some space",
        errno.EACCES: "check who owns it",
        errno.EPERM: "check who owns it",
    }.get(error.errno or 0)
    return StorageError(f"{path}: {reason.lower()}" + (f"; {mend}{otherwise}" if mend else ""))


@contextmanager
def partial_file(path: Path) -> Iterator[Path]:
    """An empty file beside `path`, so that renaming it to there stays within one file system; it is gone afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    descriptor, name = tempfile.mkstemp(prefix=PARTIAL, dir=path.parent)
    os.close(descriptor)
    partial = Path(name)
    try:
        # mkstemp makes it private; what is published is read by others: the serving image's user, a colleague.
        partial.chmod(0o644)
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _sweep(directory: Path) -> None:
    """Remove what writers left here that were killed; none takes a day for one file."""
    yesterday = time.time() - 86_400
    for left in directory.glob(f"{PARTIAL}*"):
        with suppress(FileNotFoundError):
            if left.stat().st_mtime < yesterday:
                left.unlink()


def open_storage(url: str) -> Storage:
    """The storage behind a URL: a directory, file:///directory or s3://bucket/prefix.

    Raises StorageError for any other form, and for S3 where boto3 is not installed or not configured.
    """
    if "://" not in url and not url.startswith(("file:", "s3:")):
        return LocalStorage(Path(url).expanduser().absolute())
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
        return LocalStorage(Path(unquote(parts.path)))
    if s3 := S3_URL.fullmatch(url):
        return _open_s3(url, s3["bucket"], s3["prefix"].strip("/"))
    raise StorageError(f"storage URL {url!r}: must be {FORMS}")


def _open_s3(url: str, bucket: str, prefix: str) -> Storage:
    try:
        # Here and not above: the serving image holds no boto3.
        from mlplatform.store.s3 import S3Storage
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("mlplatform"):
            raise
        raise StorageError(
            f"storage URL {url!r}: S3 needs the package {error.name}, which is not installed here; "
            "requirements/training.txt and requirements/delivery.txt hold it"
        ) from None
    return S3Storage(bucket, prefix)


def _files(directory: Path) -> Iterator[Path]:
    """Every file below a directory but those that are still being written."""
    return (path for path in directory.rglob("*") if not path.name.startswith(PARTIAL) and path.is_file())


def _sync(path: Path) -> None:
    """Force a file or directory to disk, so that what was published is still there after a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
