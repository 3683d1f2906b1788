"""Sources: a directory or S3 prefix with files of records."""

import hashlib
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from mlplatform.contract.errors import BadDataError
from mlplatform.data.records import SUFFIXES, format_of
from mlplatform.store.storage import Storage, open_storage

# Files that a message names; all are counted.
SHOWN = 5
# Downloads at once, and files of up to so many bytes that are downloaded before they are asked for.
THREADS = 8
FILES_AHEAD = 32
SMALL_BYTES = 1 << 20


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


Open = Callable[[SourceFile], AbstractContextManager[Path]]


@dataclass(frozen=True)
class Source:
    """A source and its files as they were when it was listed.

    passed_over: keys that are left out as told. others: of files that are no records, for records to name.
    """

    url: str
    files: tuple[SourceFile, ...]
    hidden: int = 0
    passed_over: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def snapshot(self) -> str:
        """16 hex digits that follow from the content of the files and how it is read, whatever their names and order.

        With the same content twice, they follow from how often.
        """
        return hashlib.sha256("\n".join(sorted(file.name for file in self.files)).encode()).hexdigest()[:16]


def list_source(url: str, pass_over: Sequence[str] = (), may_be_named: bool = False) -> Source:
    """Every file of records below a directory or S3 prefix.

    Hidden files, and files in hidden folders, are no data. Others that are not read have to be named by a pattern of
    `pass_over`, such as `*.md` or `old/*`; may_be_named: or records may name them. Raises
    BadDataError for one that is not, or if there is no file of records, and StorageError.
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
    if foreign and not may_be_named:
        more = f" and {len(foreign) - SHOWN} more" if len(foreign) > SHOWN else ""
        raise BadDataError(
            f"source {url!r}: holds files that are not read: {', '.join(foreign[:SHOWN])}{more}; remove them, or name "
            f"them in pass_over, as {_pattern(foreign[0])!r}; files of records end in {', '.join(SUFFIXES)}"
        )
    wanted = [key for key in wanted if format_of(key)]
    if not wanted:
        raise BadDataError(f"source {url!r}: holds no file of records; they end in {', '.join(SUFFIXES)}")
    files = tuple(SourceFile(key, listed[key] or storage.identity(key), format_of(key)) for key in wanted)
    return Source(url, files, len(keys) - len(seen), tuple(passed_over), tuple(foreign))


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


@contextmanager
def opening(storage: Storage, files: Iterable[SourceFile], work: Path) -> Iterator[Open]:
    """A function that gives files on this machine as `local_file` does, asked for in this order.

    Of a store elsewhere several small files are downloaded at once, before they are asked for: most of their time is
    waiting for the answer.
    """
    if storage.local_path("") is not None:
        yield lambda file: local_file(storage, file.key, work)
        return
    with ExitStack() as opened:
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix="downloads")
        # What was not asked for is removed once no download is under way.
        directory = Path(opened.enter_context(TemporaryDirectory(dir=work)))
        opened.callback(pool.shutdown, cancel_futures=True)
        yield _Downloads(storage, files, directory, pool)


class _Downloads:
    """See opening."""

    def __init__(
        self, storage: Storage, files: Iterable[SourceFile], directory: Path, pool: ThreadPoolExecutor
    ) -> None:
        self._storage = storage
        self._directory = directory
        self._pool = pool
        self._coming = iter(enumerate(files))
        self._started: deque[tuple[SourceFile, Future[Path]]] = deque()

    @contextmanager
    def __call__(self, file: SourceFile) -> Iterator[Path]:
        self._start(1)
        started, download = self._started.popleft()
        if started != file:
            raise ValueError(f"{file.key}: asked for before {started.key}")
        path = download.result()
        # One large file at a time, as the disk may be small.
        self._start(FILES_AHEAD if path.stat().st_size <= SMALL_BYTES else 0)
        try:
            yield path
        finally:
            shutil.rmtree(path.parent)

    def _start(self, wanted: int) -> None:
        for number, file in islice(self._coming, max(0, wanted - len(self._started))):
            self._started.append((file, self._pool.submit(self._download, number, file)))

    def _download(self, number: int, file: SourceFile) -> Path:
        path = self._directory / str(number) / Path(file.key).name
        self._storage.download(file.key, path)
        return path
