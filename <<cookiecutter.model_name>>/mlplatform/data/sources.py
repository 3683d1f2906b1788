"""Sources: a directory or S3 prefix with files of records."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from mlplatform.contract.errors import BadDataError
from mlplatform.data.records import SUFFIXES, format_of
from mlplatform.store.storage import Storage, open_storage

# Files that a message names; all are counted.
SHOWN = 5


@dataclass(frozen=True)
class SourceFile:
    """A file of records: its key in the source, text that changes with its content, and its format by `format_of`."""

    key: str
    identity: str
    format: str

    @property
    def name(self) -> str:
        """What a checked file is known by: its content and how that is read, whatever the file is called."""
        return f"{self.identity}:{self.format}"


@dataclass(frozen=True)
class Source:
    """A source and its files as they were when it was listed. passed_over: keys that are left out as told."""

    url: str
    files: tuple[SourceFile, ...]
    hidden: int = 0
    passed_over: tuple[str, ...] = ()

    def snapshot(self) -> str:
        """16 hex digits that follow from the content of the files and how it is read, whatever their names and order.

        With the same content twice, they follow from how often.
        """
        return hashlib.sha256("\n".join(sorted(file.name for file in self.files)).encode()).hexdigest()[:16]


def list_source(url: str, pass_over: Sequence[str] = ()) -> Source:
    """Every file of records below a directory or S3 prefix.

    Hidden files, and files in hidden folders, are no data. Others that are not read have to be named by a pattern of
    `pass_over`, such as `*.md` or `old/*`. Raises BadDataError for one that is not, or if there is no file of records,
    and StorageError.
    """
    storage = open_storage(url)
    directory = storage.local_path("")
    if directory is not None and not directory.is_dir():
        raise BadDataError(f"source {url!r}: must be a directory that exists, or s3://bucket/prefix")
    # One listing of S3 gives identities as well; in a directory each takes reading the file.
    listed = dict(storage.identities("")) if directory is None else dict.fromkeys(storage.keys(""), "")
    keys = [key for key in listed if not key.endswith("/")]
    seen = [key for key in keys if not is_hidden(key)]
    passed_over = [key for key in seen if any(_fits(key, pattern) for pattern in pass_over)]
    wanted = sorted(set(seen) - set(passed_over))
    foreign = [key for key in wanted if not format_of(key)]
    if foreign:
        more = f" and {len(foreign) - SHOWN} more" if len(foreign) > SHOWN else ""
        raise BadDataError(
            f"source {url!r}: holds files that are not read: {', '.join(foreign[:SHOWN])}{more}; remove them, or name "
            f"them in pass_over, as {_pattern(foreign[0])!r}; files of records end in {', '.join(SUFFIXES)}"
        )
    if not wanted:
        raise BadDataError(f"source {url!r}: holds no file of records; they end in {', '.join(SUFFIXES)}")
    files = tuple(SourceFile(key, listed[key] or storage.identity(key), format_of(key)) for key in wanted)
    return Source(url, files, len(keys) - len(seen), tuple(passed_over))


def is_hidden(key: str) -> bool:
    """Whether a file is hidden, or in a hidden folder."""
    return any(part.startswith(".") for part in PurePosixPath(key).parts)


def _fits(key: str, pattern: str) -> bool:
    return fnmatch(key, pattern) or fnmatch(PurePosixPath(key).name, pattern)


def _pattern(key: str) -> str:
    suffix = PurePosixPath(key).suffix
    return f"*{suffix}" if suffix else key


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
