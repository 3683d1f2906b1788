"""Storage: the same few operations on a directory and on S3.

Keys are relative POSIX paths below the root. A key is always either absent or whole: nobody ever reads half a file.
"""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlplatform.store.errors import MissingKeyError, StorageError
from mlplatform.store.local import LocalStorage
from mlplatform.store.protocol import Storage

# What other packages need of a store, so that they need not know which file holds it.
__all__ = ["LocalStorage", "MissingKeyError", "Storage", "StorageError", "open_storage"]

FORMS = "a directory, file:///directory or s3://bucket/prefix"
# Parts of a prefix are taken as they stand; only what a directory would read otherwise is refused.
S3_URL = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<prefix>(/(?!\.{0,2}(/|$))[^/\x00-\x1f]+)*)/?"
)


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
