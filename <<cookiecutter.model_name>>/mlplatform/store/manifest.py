"""Artifacts: immutable directories of files that are complete when their manifest is there.

    <prefix>/manifest.json              written last, never replaced; names every file with its SHA-256
    <prefix>/<content>/<file> ...       <content>: the first 12 hex digits of the digest over all files

Files lie below a name that follows from their content, so two publishers of one artifact never mix their files: the
first manifest wins and the other's files are removed.

An artifact may need others: its property `needs` has their prefixes, their contents and their bytes. They are fetched
with it, and several artifacts may need the same.

A manifest ends with a digest over all of it, so that a reader notices any change, that of a label too. One without,
from a version before 0.3.0, is read as it is; only its files and their list are verified.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from mlplatform.store.errors import MissingKeyError, StorageError, local_error
from mlplatform.store.moments import iso
from mlplatform.store.partial import PARTIAL
from mlplatform.store.protocol import Storage

MANIFEST = "manifest.json"
_FIELDS = frozenset({"kind", "id", "created_at", "content", "files", "properties"})
_DIGEST = "digest"
NEEDS = "needs"
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Characters up to which a manifest is written in lines.
READABLE = 1 << 18
# Kinds that are looked up by id: theirs is the last part of their prefix.
_KINDS_BY_ID = ("model", "dataset")
# Files transferred at once. Most of a small file's time on S3 is waiting for the answer.
THREADS = 8

T = TypeVar("T")
R = TypeVar("R")


class ArtifactError(ValueError):
    """An artifact is incomplete, damaged or of the wrong kind; the message says which file and why."""


@dataclass(frozen=True)
class FileEntry:
    """One file: SHA-256 as 64 hex digits, size in bytes."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """The description of an artifact.

    kind: dataset, model, ...; id: its version; created_at: UTC, ISO 8601; content: directory of the files below the
    prefix; files: by path relative to that directory; properties: JSON values whose meaning depends on the kind.
    """

    kind: str
    id: str
    created_at: str
    content: str
    files: Mapping[str, FileEntry]
    properties: Mapping[str, Any]

    @property
    def size(self) -> int:
        """Bytes of all files together, those of the artifacts that it needs included."""
        own = sum(entry.bytes for entry in self.files.values())
        return own + sum(int(needed["bytes"]) for needed in self.needs.values())

    @property
    def needs(self) -> Mapping[str, Mapping[str, Any]]:
        """By prefix the artifacts that it needs: `content`, see above, and `bytes`."""
        needed: Mapping[str, Mapping[str, Any]] = self.properties.get(NEEDS, {})
        return needed

    def to_json(self) -> bytes:
        """UTF-8 JSON, the content of manifest.json."""
        # `asdict` would copy the properties, which may be those of thousands of files.
        fields = vars(self) | {"files": {path: vars(entry) for path, entry in self.files.items()}}
        # As it will be read: with lists for tuples, and text for keys.
        compact = json.dumps(fields, ensure_ascii=False, allow_nan=False)
        raw = json.loads(compact)
        raw[_DIGEST] = _digest_of(raw)
        # Indentation is for people, and takes ten times as long.
        indent = 1 if len(compact) < READABLE else None
        return json.dumps(raw, indent=indent, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes, origin: str) -> "Manifest":
        """Parse manifest.json. Raises ArtifactError naming `origin` if it is not one, or was changed."""
        try:
            raw = json.loads(content)
            has_digest = _DIGEST in raw
            digest = raw.pop(_DIGEST, "")
            changed = has_digest and digest != _digest_of(raw)
            manifest = _parsed(raw)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ArtifactError(f"{origin}: not a manifest ({type(error).__name__}: {error})") from None
        if any(not _is_inside(path) for path in (*manifest.files, manifest.content, *manifest.needs)):
            raise ArtifactError(f"{origin}: names a file outside its own directory")
        if changed or manifest.content != _content_name(manifest.files):
            raise ArtifactError(f"{origin}: was changed after it was written; publish it again")
        return manifest


def _parsed(raw: dict[str, Any]) -> Manifest:
    """The manifest of a JSON object. Raises ValueError, KeyError, TypeError or AttributeError if it is none."""
    if raw.keys() != _FIELDS:
        raise ValueError(f"it has the fields {', '.join(sorted(raw))}")
    for name in ("kind", "id", "created_at", "content"):
        if not isinstance(raw[name], str):
            raise TypeError(f"{name} is no text")
    for path, entry in raw["files"].items():
        size = entry["bytes"]
        if not _SHA256.fullmatch(entry["sha256"]) or isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise ValueError(f"{path} has no SHA-256 or no size")
    if not isinstance(raw["properties"], dict):
        raise TypeError("properties is no object")
    files = {path: FileEntry(entry["sha256"], entry["bytes"]) for path, entry in raw["files"].items()}
    return Manifest(**{**raw, "files": files})


def _digest_of(raw: Mapping[str, Any]) -> str:
    """SHA-256 over a manifest without its digest, whatever the order of its keys and its white space."""
    return hashlib.sha256(json.dumps(raw, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _is_inside(path: str) -> bool:
    pure = PurePosixPath(path)
    return not pure.is_absolute() and ".." not in pure.parts and "\0" not in path


def publish(
    storage: Storage, prefix: str, directory: Path, kind: str, id: str, properties: Mapping[str, Any]
) -> Manifest:
    """Publish the files of a directory as an artifact, and return the manifest in the store.

    Nothing is visible before the manifest. An artifact that exists already stays as it is and its manifest is
    returned; of several concurrent publishers the first wins. Raises StorageError.
    """
    files = _entries(directory)
    manifest = Manifest(
        kind=kind,
        id=id,
        created_at=iso(),
        content=_content_name(files),
        files=files,
        properties=properties,
    )
    existing = find(storage, prefix)
    if existing is not None:
        return existing
    keys = {path: f"{prefix}/{manifest.content}/{path}" for path in files}
    _map_in_threads(lambda path: storage.upload(directory / path, keys[path]), files)
    if storage.create(f"{prefix}/{MANIFEST}", manifest.to_json()):
        return manifest
    winner = read(storage, prefix)
    if winner.content != manifest.content:
        # What cannot be removed, for want of permission say, does no harm: no manifest names it.
        with suppress(StorageError):
            _map_in_threads(storage.delete, keys.values())
    return winner


def find(storage: Storage, prefix: str) -> Manifest | None:
    """The manifest of an artifact, or None if there is none (yet). The files are not checked."""
    try:
        return read(storage, prefix)
    except MissingKeyError:
        return None


def read(storage: Storage, prefix: str) -> Manifest:
    """The manifest of an artifact. Raises MissingKeyError or ArtifactError. The files are not checked."""
    key = f"{prefix}/{MANIFEST}"
    origin = f"{storage.url}/{key}"
    return _in_its_place(Manifest.from_json(storage.read(key), origin), prefix, origin)


def list_artifacts(
    storage: Storage, prefix: str, damaged: Callable[[ArtifactError], object] | None = None
) -> list[Manifest]:
    """The manifests directly below a prefix such as `models`, oldest first.

    damaged: called for each manifest that is none any more, which is left out then; without it ArtifactError is raised.
    """

    def look(name: str) -> Manifest | ArtifactError | None:
        try:
            return find(storage, f"{prefix}/{name}")
        except ArtifactError as error:
            return error

    manifests: list[Manifest] = []
    for manifest in _map_in_threads(look, storage.directories(f"{prefix}/")):
        if isinstance(manifest, Manifest):
            manifests.append(manifest)
        elif manifest is not None:
            if damaged is None:
                raise manifest
            damaged(manifest)
    return sorted(manifests, key=lambda manifest: (manifest.created_at, manifest.id))


def remove(storage: Storage, prefix: str) -> None:
    """Delete an artifact. The manifest goes first: what is killed half-way has left none behind that looks whole."""
    storage.delete(f"{prefix}/{MANIFEST}")
    for key in list(storage.keys(f"{prefix}/")):
        storage.delete(key)


def fetch(storage: Storage, prefix: str, cache: Path) -> tuple[Manifest, Path]:
    """Make an artifact's files available locally, verified, and return its manifest and their directory.

    So are those of the artifacts that it needs: below `cache`, or in the store, they lie where their prefixes say. A
    store on this machine is used in place. From any other, the files are downloaded below `cache` once, and again if
    that copy is damaged. Raises MissingKeyError, ArtifactError or StorageError.
    """
    manifest, content = _fetch_own(storage, prefix, cache)
    for needed, described in manifest.needs.items():
        try:
            found, _ = _fetch_own(storage, needed, cache)
        except MissingKeyError as error:
            raise ArtifactError(f"{error}, though {prefix} needs it") from None
        check_needed(found, described["content"], f"{storage.url}/{needed}", prefix)
    return manifest, content


def check_needed(found: Manifest, content: str, origin: str, prefix: str) -> None:
    """Raises ArtifactError if an artifact is not the one that the artifact with this prefix needs."""
    if found.content != content:
        raise ArtifactError(f"{origin}: was replaced after {prefix} was published, which needs content {content}")


def _fetch_own(storage: Storage, prefix: str, cache: Path) -> tuple[Manifest, Path]:
    """See fetch."""
    local = storage.local_path(prefix)
    if local is not None:
        manifest, content = read_directory(local)
        return _in_its_place(manifest, prefix, str(local / MANIFEST)), content
    manifest = read(storage, prefix)
    target = cache / prefix
    try:
        with _locked(target):
            if not _holds(target, manifest):
                _download(storage, prefix, manifest, target)
    except OSError as error:
        raise local_error(target, error) from error
    return manifest, target / manifest.content


def fetch_file(storage: Storage, prefix: str, manifest: Manifest, path: str, cache: Path) -> Path:
    """One file of an artifact, verified, without the others. Raises MissingKeyError, ArtifactError or StorageError."""
    target = cache / prefix / manifest.content / path
    if not target.is_file():
        storage.download(f"{prefix}/{manifest.content}/{path}", target)
    _verify_file(target, manifest.files[path])
    return target


def read_directory(directory: Path) -> tuple[Manifest, Path]:
    """Manifest and directory of the files of an artifact on this machine; every file's size and SHA-256 is checked.

    Raises ArtifactError if the manifest or a file is missing or differs, or if there is a file or a symbolic link that
    the manifest does not name.
    """
    path = directory / MANIFEST
    try:
        manifest = Manifest.from_json(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise ArtifactError(f"{path}: not there, so this is no complete artifact") from None
    _verify(manifest, directory / manifest.content)
    return manifest, directory / manifest.content


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as 64 hex digits, in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Let one process or thread at a time work on a directory; the others wait. Its death releases the lock."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f".lock-{target.name}").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _holds(directory: Path, manifest: Manifest) -> bool:
    """Whether a directory holds exactly this artifact, undamaged."""
    try:
        return read_directory(directory)[0] == manifest
    except ArtifactError:
        return False


def _download(storage: Storage, prefix: str, manifest: Manifest, target: Path) -> None:
    """Download an artifact and move it to `target` once verified. Raises ArtifactError, StorageError or OSError."""
    partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=target.parent))
    try:
        try:
            _map_in_threads(
                lambda path: storage.download(f"{prefix}/{manifest.content}/{path}", partial / manifest.content / path),
                manifest.files,
            )
        except MissingKeyError as error:
            raise ArtifactError(f"{error}, though the manifest names it") from None
        (partial / MANIFEST).write_bytes(manifest.to_json())
        _verify(manifest, partial / manifest.content)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _map_in_threads(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """The results of a function for every item, computed by several threads; the first error ends it and is raised."""
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="artifacts")
    wait = True
    try:
        return list(pool.map(function, items))
    except BaseException as error:
        # A process that has to stop does not wait for transfers under way: they may take minutes.
        wait = isinstance(error, Exception)
        raise
    finally:
        pool.shutdown(wait, cancel_futures=True)


def _entries(directory: Path) -> dict[str, FileEntry]:
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): FileEntry(file_sha256(path), path.stat().st_size) for path in paths}


def _content_name(files: Mapping[str, FileEntry]) -> str:
    listing = "".join(f"{path}\0{files[path].sha256}\n" for path in sorted(files))
    return hashlib.sha256(listing.encode()).hexdigest()[:12]


def _in_its_place(manifest: Manifest, prefix: str, origin: str) -> Manifest:
    """The manifest, if it is that of this prefix. Raises ArtifactError."""
    if manifest.kind in _KINDS_BY_ID and manifest.id != PurePosixPath(prefix).name:
        raise ArtifactError(f"{origin}: is the manifest of {manifest.kind} {manifest.id!r}, which belongs elsewhere")
    return manifest


def _verify(manifest: Manifest, content: Path) -> None:
    for path in _below(content):
        if path.is_symlink():
            raise ArtifactError(f"{path}: is a symbolic link, and an artifact holds only files; remove it")
        name = path.relative_to(content).as_posix()
        if path.is_file() and name not in manifest.files and not path.name.startswith(PARTIAL):
            raise ArtifactError(f"{path}: the manifest does not name it; remove it")
    for name, entry in manifest.files.items():
        _verify_file(content / name, entry)


def _below(directory: Path) -> Iterator[Path]:
    """A directory and all that is in it; links are not followed."""
    yield directory
    for parent, directories, files in os.walk(directory):
        yield from (Path(parent) / name for name in (*directories, *files))


def _verify_file(path: Path, entry: FileEntry) -> None:
    if not path.is_file():
        raise ArtifactError(f"{path}: missing, though the manifest names it")
    size = path.stat().st_size
    if size != entry.bytes:
        raise ArtifactError(f"{path}: has {size} bytes, the manifest says {entry.bytes}")
    if file_sha256(path) != entry.sha256:
        raise ArtifactError(f"{path}: its SHA-256 is not the one in the manifest")
