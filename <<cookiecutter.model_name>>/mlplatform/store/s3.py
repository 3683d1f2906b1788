"""Storage on S3 or on a service with the same API. boto3 reads AWS_ENDPOINT_URL and the other AWS_* variables."""

import io
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    LoginError,
    MetadataRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
    SSOError,
    TokenRetrievalError,
)

from mlplatform.store.errors import MissingKeyError, StorageError, local_error
from mlplatform.store.partial import partial_file

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

# Ten attempts wait 13 s in all, on average, between answers of 500 and between resets, and 55 s when S3 says SlowDown.
ATTEMPTS = 10
CONNECT_SECONDS = 5
READ_SECONDS = 30
# Read at a time from an answer's body.
CHUNK_BYTES = 1 << 20
# Metadata of an object made by `create`: the call that made it.
CREATOR = "creator"

_CREDENTIALS = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; a job in AWS has a role"
_NO_CREDENTIALS = (
    CredentialRetrievalError,
    LoginError,
    MetadataRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)
_BROKEN_BODY = (FlexibleChecksumError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError)

T = TypeVar("T")


class S3Storage:
    """Storage below a prefix of a bucket. May be used by several threads at once.

    S3 shows an object only when all of it has arrived, in one part or in many, so every key is absent or whole.
    A request that meets a 5xx, SlowDown, a reset or a timeout is retried with growing pauses, `attempts` attempts in
    all; the default is AWS_MAX_ATTEMPTS, or ATTEMPTS. Raises StorageError if boto3 is configured wrongly.
    """

    def __init__(
        self, bucket: str, prefix: str = "", attempts: int | None = None, read_seconds: float = READ_SECONDS
    ) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self._attempts = attempts or _configured_attempts()
        try:
            config = Config(
                retries={"mode": "standard", "total_max_attempts": self._attempts},
                connect_timeout=CONNECT_SECONDS,
                read_timeout=read_seconds,
                # Eight files at once, each of them perhaps in parts.
                max_pool_connections=32,
            )
            # Clients may be shared between threads; sessions, so also boto3's default one, may not.
            self._client = boto3.session.Session().client("s3", config=config)
        except (BotoCoreError, ValueError) as error:
            raise StorageError(
                f"{self.url}: boto3 cannot be set up: {_sentence(error)}; check the variables AWS_*"
            ) from error
        # One for all files, so that its ten threads are all there are. Files over 8 MB go in parts.
        self._transfers = create_transfer_manager(self._client, TransferConfig(preferred_transfer_client="classic"))

    @property
    def url(self) -> str:
        """s3://bucket/prefix."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def read(self, key: str) -> bytes:
        """See Storage."""
        return self._whole(key, lambda chunks: b"".join(chunks))

    def write(self, key: str, content: bytes) -> None:
        """See Storage."""
        self._send(key, lambda: io.BytesIO(content))

    def create(self, key: str, content: bytes) -> bool:
        """See Storage."""
        return self._put_if(key, content, {"IfNoneMatch": "*"})

    def replace(self, key: str, content: bytes, identity: str | None) -> bool:
        """See Storage."""
        if identity is None:
            return self.create(key, content)
        try:
            return self._put_if(key, content, {"IfMatch": f'"{identity.rpartition("-")[0]}"'})
        except MissingKeyError:
            return False

    def _put_if(self, key: str, content: bytes, condition: dict[str, str]) -> bool:
        """Put an object if a condition holds; of several callers at once exactly one gets True."""
        creator = uuid.uuid4().hex
        put: Any = self._client.put_object
        with self._errors_explained(key):
            for attempt in range(1, self._attempts + 1):
                try:
                    put(
                        Bucket=self.bucket,
                        Key=self._name(key),
                        Body=content,
                        Metadata={CREATOR: creator},
                        **condition,
                    )
                except ClientError as error:
                    if _code(error) == "PreconditionFailed":
                        # The condition fails, or an earlier attempt of ours succeeded and its answer was lost.
                        return self._creator(key) == creator
                    if _code(error) != "ConditionalRequestConflict" or attempt == self._attempts:
                        raise
                    # Another caller is creating it at this moment and may yet fail: S3 asks to try again.
                    _wait(attempt)
                else:
                    return True
        raise AssertionError("the loop ends by return or raise")

    def upload(self, path: Path, key: str) -> None:
        """See Storage."""
        try:
            self._send(key, lambda: str(path))
        except OSError as error:
            raise local_error(path, error) from error

    def download(self, key: str, path: Path) -> None:
        """See Storage."""

        def save(chunks: Iterator[bytes]) -> None:
            with partial_file(path) as partial:
                with partial.open("wb") as file:
                    file.writelines(chunks)
                partial.replace(path)

        try:
            self._whole(key, save)
        except OSError as error:
            raise local_error(path, error) from error

    def exists(self, key: str) -> bool:
        """See Storage."""
        try:
            self.identity(key)
        except MissingKeyError:
            return False
        return True

    def identity(self, key: str) -> str:
        """See Storage: ETag and size in bytes."""
        with self._errors_explained(key):
            try:
                head = self._client.head_object(Bucket=self.bucket, Key=self._name(key))
                return _identity(head["ETag"], head["ContentLength"])
            except ClientError as error:
                if _status(error) == 404 or _status(error) >= 500:
                    raise
                # An answer to HEAD has no body that could say what is wrong; the one to GET has.
                answer = self._client.get_object(Bucket=self.bucket, Key=self._name(key))
                answer["Body"].close()
                return _identity(answer["ETag"], answer["ContentLength"])

    def keys(self, prefix: str) -> Iterator[str]:
        """See Storage."""
        return (key for key, _ in self.identities(prefix))

    def identities(self, prefix: str, endings: tuple[str, ...] = ("",)) -> Iterator[tuple[str, str]]:
        """See Storage."""
        pages = self._client.get_paginator("list_objects_v2")
        with self._errors_explained(prefix):
            for page in pages.paginate(Bucket=self.bucket, Prefix=self._name(prefix)):
                for entry in page.get("Contents", ()):
                    if entry["Key"].endswith(endings):
                        yield entry["Key"][len(self._name("")) :], _identity(entry["ETag"], entry["Size"])

    def directories(self, prefix: str) -> Iterator[str]:
        """See Storage."""
        pages = self._client.get_paginator("list_objects_v2")
        with self._errors_explained(prefix):
            for page in pages.paginate(Bucket=self.bucket, Prefix=self._name(prefix), Delimiter="/"):
                yield from (entry["Prefix"][len(self._name(prefix)) : -1] for entry in page.get("CommonPrefixes", ()))

    def delete(self, key: str) -> None:
        """See Storage."""
        with self._errors_explained(key):
            self._client.delete_object(Bucket=self.bucket, Key=self._name(key))

    def local_path(self, key: str) -> Path | None:
        """See Storage: never."""
        return None

    def _name(self, key: str) -> str:
        """The object's name in the bucket."""
        return f"{self.prefix}/{key}" if self.prefix else key

    def _send(self, key: str, source: Callable[[], str | BinaryIO]) -> None:
        """Create or replace a key with the content of a file, in parts if it is large."""
        with self._errors_explained(key):
            try:
                self._transfers.upload(source(), self.bucket, self._name(key)).result()
            except ClientError as error:
                if _code(error) != "NoSuchUpload":
                    raise
                # The parts were put together, the answer was lost, and the next attempt found no parts any more.
                self._transfers.upload(source(), self.bucket, self._name(key)).result()

    def _creator(self, key: str) -> str | None:
        return self._client.head_object(Bucket=self.bucket, Key=self._name(key))["Metadata"].get(CREATOR)

    def _whole(self, key: str, use: Callable[[Iterator[bytes]], T]) -> T:
        """What `use` returns for an object's content; it is called again if the transfer breaks off.

        boto3 retries what fails before the answer begins, and checks the body's length, and its CRC if the object was
        stored with one.
        """
        with self._errors_explained(key):
            for attempt in range(1, self._attempts + 1):
                answer = self._client.get_object(Bucket=self.bucket, Key=self._name(key))
                try:
                    return use(_chunks(answer))
                except _BrokenOffError as error:
                    if attempt == self._attempts:
                        raise StorageError(
                            f"{self._place(key)}: the content broke off on the way in each of {attempt} attempts "
                            f"({_sentence(error)}); check the network"
                        ) from error
                    _wait(attempt)
        raise AssertionError("the loop ends by return or raise")

    def _place(self, key: str) -> str:
        return f"s3://{self.bucket}/{self._name(key)}"

    @contextmanager
    def _errors_explained(self, key: str) -> Iterator[None]:
        """Turn boto3's exceptions into a StorageError of one sentence."""
        try:
            yield
        except ClientError as error:
            raise self._refusal(key, error) from error
        except _NO_CREDENTIALS as error:
            raise StorageError(
                f"{self._place(key)}: no AWS credentials ({_sentence(error)}); {_CREDENTIALS}"
            ) from error
        except (ConnectionError, HTTPClientError) as error:
            raise StorageError(
                f"{self._place(key)}: no answer from {self._client.meta.endpoint_url} in {self._attempts} attempts "
                f"({_sentence(error)}); check the network and AWS_ENDPOINT_URL"
            ) from error
        except BotoCoreError as error:
            raise StorageError(f"{self._place(key)}: {_sentence(error)}") from error

    def _refusal(self, key: str, error: ClientError) -> StorageError:
        """What an answer of 3xx, 4xx or 5xx means, and what to do about it."""
        code, status, place = _code(error), _status(error), self._place(key)
        # HEAD is answered without a code; boto3 puts the status there.
        answer = code if code == str(status) else f"{status} {code}"
        match code:
            case "NoSuchBucket":
                return StorageError(
                    f"s3://{self.bucket}: there is no such bucket; create it, or correct the store's URL "
                    "([storage] url of service.toml, STORAGE_URL)"
                )
            case "NoSuchKey" | "404":
                return MissingKeyError(f"{place}: not there")
            case "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" | "TokenRefreshRequired":
                return StorageError(f"{place}: the AWS credentials have expired; log in again or renew them")
            case "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "InvalidSecurity":
                return StorageError(f"{place}: S3 does not accept the AWS credentials ({code}); {_CREDENTIALS}")
            case "RequestTimeTooSkewed":
                return StorageError(f"{place}: this machine's clock is wrong ({code}); set it")
            case "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException":
                return StorageError(
                    f"{place}: the bucket is not in the region {self._client.meta.region_name} ({code}); "
                    "set AWS_DEFAULT_REGION to the bucket's"
                )
            case _ if status == 403:
                return StorageError(
                    f"{place}: access denied ({code}); it takes s3:GetObject, s3:PutObject and s3:DeleteObject on "
                    f"{self.url}/*, and s3:ListBucket on the bucket, without which S3 says this of a missing key, too"
                )
            case _ if status >= 500:
                return StorageError(
                    f"{place}: S3 answered {answer} in each of {_attempts_made(error)} attempts; try again later"
                )
            case _:
                return StorageError(f"{place}: S3 refuses with {answer}: {error.response['Error']['Message']}")


def _identity(etag: str, size: int) -> str:
    return f"{etag.strip(chr(34))}-{size}"


class _BrokenOffError(Exception):
    """The body of an answer is cut short or damaged."""


def _chunks(answer: "GetObjectOutputTypeDef") -> Iterator[bytes]:
    """An answer's body, in chunks. Raises _BrokenOffError if it is cut short or damaged."""
    try:
        yield from answer["Body"].iter_chunks(CHUNK_BYTES)
    except _BROKEN_BODY as error:
        raise _BrokenOffError(_sentence(error)) from error


def _configured_attempts() -> int:
    """AWS_MAX_ATTEMPTS or the default. Raises StorageError."""
    configured = os.environ.get("AWS_MAX_ATTEMPTS") or str(ATTEMPTS)
    if not configured.isdecimal() or int(configured) < 1:
        raise StorageError(f"environment variable AWS_MAX_ATTEMPTS = {configured!r}: must be a whole number from 1 on")
    return int(configured)


def _wait(attempt: int) -> None:
    """Wait as boto3 does between its own attempts: 0.05 s, doubled every time, 20 s at most."""
    time.sleep(min(0.05 * 2 ** (attempt - 1), 20))


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")


def _status(error: ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def _attempts_made(error: ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0) + 1


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
