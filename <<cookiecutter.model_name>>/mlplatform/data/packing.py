"""Packed files: read and written by what their names end in, `.gz`, `.zst`, or neither."""

import gzip
import io
import zlib
from pathlib import Path

from backports import zstd

GZIP, ZSTANDARD = ".gz", ".zst"
PACKED = (GZIP, ZSTANDARD)
# What reading a damaged file raises.
DAMAGED = (OSError, EOFError, zlib.error, zstd.ZstdError)


def packing(name: str) -> str:
    """How a file of this name is packed: what it ends in, in any case; empty if it is not."""
    return next((ending for ending in PACKED if name.lower().endswith(ending)), "")


def unpacked_name(name: str) -> str:
    """A name without the ending that says how the file is packed."""
    ending = packing(name)
    return name[: -len(ending)] if ending else name


def open_file(path: Path, ending: str) -> io.BufferedIOBase:
    """A file to be read as if it was not packed; ending: see `packing`. Reading raises one of DAMAGED."""
    if ending == GZIP:
        return gzip.open(path)
    return zstd.open(path) if ending == ZSTANDARD else path.open("rb")


def unpack(content: bytes, ending: str) -> bytes:
    """The content of a file that is packed in this way. Raises one of DAMAGED."""
    if ending == GZIP:
        return gzip.decompress(content)
    return zstd.decompress(content) if ending == ZSTANDARD else content


def pack(content: bytes, ending: str) -> bytes:
    """The content of a file, packed in this way; the same content gives the same bytes."""
    if ending == GZIP:
        return gzip.compress(content, mtime=0)
    return zstd.compress(content) if ending == ZSTANDARD else content
