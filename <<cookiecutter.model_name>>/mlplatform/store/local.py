"""Storage in a directory."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlplatform.store.errors import MissingKeyError, local_error
from mlplatform.store.partial import PARTIAL, partial_file


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
        with self._errors_explained(key):
            return (self.root / key).read_bytes()

    def write(self, key: str, content: bytes) -> None:
        """See Storage."""
        with self._errors_explained(key), partial_file(self.root / key) as partial:
            partial.write_bytes(content)
            self._commit(partial, key)

    def create(self, key: str, content: bytes) -> bool:
        """See Storage."""
        with self._errors_explained(key), partial_file(self.root / key) as partial:
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
        with self._errors_explained(key), (self.root / key).open("rb") as current:
            # The lock's last holder may have replaced this file: then the name belongs to another file by now.
            fcntl.flock(current, fcntl.LOCK_EX)
            if self.identity(key) != identity or not os.path.samestat(
                os.fstat(current.fileno()), (self.root / key).stat()
            ):
                return False
            self.write(key, content)
            return True

    def upload(self, path: Path, key: str) -> None:
        """See Storage."""
        with self._errors_explained(key), partial_file(self.root / key) as partial:
            shutil.copyfile(path, partial)
            self._commit(partial, key)

    def download(self, key: str, path: Path) -> None:
        """See Storage."""
        with self._errors_explained(key), partial_file(path) as partial:
            shutil.copyfile(self.root / key, partial)
            partial.replace(path)

    def exists(self, key: str) -> bool:
        """See Storage."""
        with self._errors_explained(key):
            return (self.root / key).is_file()

    def identity(self, key: str) -> str:
        """See Storage."""
        with self._errors_explained(key), (self.root / key).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def keys(self, prefix: str) -> Iterator[str]:
        """See Storage."""
        with self._errors_explained(prefix):
            yield from sorted(path.relative_to(self.root).as_posix() for path in _files(self.root / prefix))

    def identities(self, prefix: str, endings: tuple[str, ...] = ("",)) -> Iterator[tuple[str, str]]:
        """See Storage."""
        return ((key, self.identity(key)) for key in self.keys(prefix) if key.endswith(endings))

    def directories(self, prefix: str) -> Iterator[str]:
        """See Storage."""
        with self._errors_explained(prefix):
            below = (self.root / prefix).iterdir() if (self.root / prefix).is_dir() else ()
            yield from sorted(path.name for path in below if path.is_dir() and any(True for _ in _files(path)))

    def delete(self, key: str) -> None:
        """See Storage."""
        with self._errors_explained(key):
            (self.root / key).unlink(missing_ok=True)

    def local_path(self, key: str) -> Path | None:
        """See Storage."""
        return self.root / key

    def _commit(self, partial: Path, key: str) -> None:
        _sync(partial)
        partial.replace(self.root / key)
        _sync((self.root / key).parent)

    @contextmanager
    def _errors_explained(self, key: str) -> Iterator[None]:
        """Turn an OSError into a StorageError of one sentence."""
        try:
            yield
        except FileNotFoundError as error:
            raise MissingKeyError(f"{self.root / key}: not there") from error
        except OSError as error:
            raise local_error(self.root / key, error, " or set STORAGE_URL to another place") from error


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
