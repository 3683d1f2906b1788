"""Sources: a directory or S3 prefix with files of records."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mlplatform.contract.errors import BadDataError
from mlplatform.data.records import SUFFIXES
from mlplatform.store.storage import Storage, open_storage


@dataclass(frozen=True)
class SourceFile:
    """A file of records: its key in the source, and text that changes with its content."""

    key: str
    identity: str


@dataclass(frozen=True)
class Source:
    """A source and its files as they were when it was listed."""

    url: str
    files: tuple[SourceFile, ...]

    def snapshot(self) -> str:
        """16 hex digits that follow from the content of the files, whatever their names and order."""
        return hashlib.sha256("\n".join(sorted(file.identity for file in self.files)).encode()).hexdigest()[:16]


def list_source(url: str) -> Source:
    """Every file of records below a directory or S3 prefix. Raises BadDataError if there is none, StorageError."""
    storage = open_storage(url)
    directory = storage.local_path("")
    if directory is not None and not directory.is_dir():
        raise BadDataError(f"source {url!r}: must be a directory that exists, or s3://bucket/prefix")
    files = tuple(SourceFile(key, identity) for key, identity in storage.identities("", SUFFIXES))
    if not files:
        raise BadDataError(f"source {url!r}: holds no file of records; they end in {', '.join(SUFFIXES)}")
    return Source(url, files)


@contextmanager
def local_file(storage: Storage, key: str, work: Path) -> Iterator[Path]:
    """A file on this machine; one from elsewhere is downloaded below `work` and removed afterwards."""
    path = storage.local_path(key)
    if path is not None:
        yield path
        return
    with TemporaryDirectory(dir=work) as temporary:
        path = Path(temporary) / Path(key).name
        storage.download(key, path)
        yield path
