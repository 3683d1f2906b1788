"""What every store can do, whatever lies behind it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol


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
