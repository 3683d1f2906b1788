"""Storage on S3 when something goes wrong between here and there: tried again where that helps, else said plainly."""

import os
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

import pytest

from mlplatform.store import manifest
from mlplatform.store.s3 import S3Storage
from mlplatform.store.storage import StorageError, open_storage
from mlplatform.tests.conftest import Bucket
from mlplatform.tests.faults import FOREVER, Answer, Damaged, Fault, Reset, Slow, Truncated

PASSING = [
    pytest.param(Answer(500, "InternalError"), id="500"),
    pytest.param(Answer(503, "ServiceUnavailable"), id="503"),
    pytest.param(Reset(handled=False), id="reset before"),
    pytest.param(Reset(handled=True), id="reset after"),
]
PART = 8 << 20


@pytest.fixture
def storage(bucket: Bucket) -> S3Storage:
    return S3Storage(bucket.name, "store")


def file(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def said(action: Callable[[], object]) -> str:
    """The sentence that an action ends with."""
    with pytest.raises(StorageError) as error:
        action()
    return str(error.value)


@pytest.mark.parametrize("fault", PASSING)
def test_a_passing_fault_changes_nothing(storage: S3Storage, bucket: Bucket, tmp_path: Path, fault: Fault) -> None:
    bucket.faults.fault(fault, "PUT", "a/new")
    bucket.faults.fault(fault, "PUT", "a/file")
    bucket.faults.fault(fault, "GET", "a/new")
    bucket.faults.fault(fault, "GET", "list-type")
    bucket.faults.fault(fault, "HEAD", "a/new")
    bucket.faults.fault(fault, "DELETE", "a/new")
    assert storage.create("a/new", b"new")
    storage.upload(file(tmp_path / "file", b"content"), "a/file")
    assert storage.read("a/new") == b"new"
    assert list(storage.keys("a/")) == ["a/file", "a/new"]
    assert storage.exists("a/new")
    storage.delete("a/new")
    assert bucket.objects() == {"a/file": b"content"}
    assert bucket.faults.not_made() == []


def test_when_s3_asks_to_slow_down_a_moment_is_waited(storage: S3Storage, bucket: Bucket) -> None:
    bucket.faults.fault(Answer(503, "SlowDown"), "PUT", "key")
    storage.write("key", b"x")
    assert bucket.objects() == {"key": b"x"}


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (Answer(500, "InternalError"), r"S3 answered 500 InternalError in each of 2 attempts; try again later"),
        (Answer(503, "ServiceUnavailable"), r"S3 answered 503 ServiceUnavailable in each of 2 attempts; try again"),
        (
            Reset(handled=False),
            r"no answer from http://127\.0\.0\.1:\d+ in 2 attempts \(.+\); check the network and AWS_ENDPOINT_URL",
        ),
    ],
)
def test_a_lasting_fault_is_said(bucket: Bucket, tmp_path: Path, fault: Fault, sentence: str) -> None:
    storage = S3Storage(bucket.name, "store", attempts=2)
    for method in ("PUT", "GET", "HEAD"):
        bucket.faults.fault(fault, method, "key", times=FOREVER)
    path = file(tmp_path / "file", b"old")
    pattern = rf"s3://{bucket.name}/store/key: " + sentence
    for action in (
        lambda: storage.write("key", b""),
        lambda: storage.create("key", b""),
        lambda: storage.upload(path, "key"),
        lambda: storage.read("key"),
        lambda: storage.download("key", path),
    ):
        with pytest.raises(StorageError, match=pattern):
            action()
    assert bucket.objects() == {}
    assert path.read_bytes() == b"old"


def test_a_lasting_fault_of_a_question_without_a_body_is_said(storage: S3Storage, bucket: Bucket) -> None:
    bucket.faults.fault(Answer(503, ""), "HEAD", "key", times=FOREVER)
    assert "store/key: S3 answered 503 in each of 3 attempts" in said(lambda: storage.exists("key"))


# On the way down.


@pytest.mark.parametrize("fault", [Truncated(), Damaged()])
def test_a_body_that_is_not_whole_or_not_right_is_fetched_again(
    storage: S3Storage, bucket: Bucket, tmp_path: Path, fault: Fault
) -> None:
    content = os.urandom(3 << 20)
    storage.write("key", content)
    bucket.faults.fault(fault, "GET", "key", times=2)
    assert storage.read("key") == content
    bucket.faults.fault(fault, "GET", "key", times=2)
    storage.download("key", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == content


def test_a_body_that_never_comes_whole_leaves_what_was_there(
    storage: S3Storage, bucket: Bucket, tmp_path: Path
) -> None:
    storage.write("key", b"x" * 1000)
    bucket.faults.fault(Truncated(), "GET", "key", times=FOREVER)
    path = file(tmp_path / "down" / "file", b"old")
    assert "store/key: the content broke off on the way in each of 3 attempts (" in said(
        lambda: storage.download("key", path)
    )
    assert [(file.name, file.read_bytes()) for file in path.parent.iterdir()] == [("file", b"old")]


def test_a_place_that_a_file_cannot_be_put_is_said(storage: S3Storage, tmp_path: Path) -> None:
    storage.write("key", b"x")
    blocked = file(tmp_path / "a-file", b"") / "down"
    assert said(lambda: storage.download("key", blocked)) == f"{blocked}: a file stands where a directory must be"


def test_a_slow_answer_is_not_waited_for_forever(bucket: Bucket) -> None:
    storage = S3Storage(bucket.name, "store", attempts=5, read_seconds=0.3)
    storage.write("key", b"x")
    bucket.faults.fault(Slow(0.6), "GET", "key")
    assert storage.read("key") == b"x"
    storage = S3Storage(bucket.name, "store", attempts=2, read_seconds=0.3)
    bucket.faults.fault(Slow(0.6), "GET", "key", times=FOREVER)
    assert "store/key: no answer from http://127.0.0.1:" in said(lambda: storage.read("key"))


# Creating.


def test_a_creation_whose_answer_was_lost_is_ours(storage: S3Storage, bucket: Bucket) -> None:
    bucket.faults.fault(Reset(handled=True), "PUT", "lock", times=2)
    assert storage.create("lock", b"mine")
    assert bucket.objects() == {"lock": b"mine"}


def test_after_a_lost_answer_what_another_created_is_not_ours_though_it_is_the_same(
    storage: S3Storage, bucket: Bucket
) -> None:
    assert storage.create("lock", b"same")
    bucket.faults.fault(Reset(handled=True), "PUT", "lock")
    assert not storage.create("lock", b"same")


def test_a_creation_that_meets_another_is_tried_again(storage: S3Storage, bucket: Bucket) -> None:
    bucket.faults.fault(Answer(409, "ConditionalRequestConflict"), "PUT", "lock", times=2)
    assert storage.create("lock", b"mine")
    bucket.faults.fault(Answer(409, "ConditionalRequestConflict"), "PUT", "lock")
    assert not storage.create("lock", b"another's")
    assert bucket.objects() == {"lock": b"mine"}


# Large files.


@pytest.mark.parametrize("fault", [Answer(500, "InternalError"), Reset(handled=False), Reset(handled=True)])
def test_each_part_of_a_large_file_is_tried_again_by_itself(
    storage: S3Storage, bucket: Bucket, tmp_path: Path, fault: Fault
) -> None:
    content = os.urandom(2 * PART + 1)
    bucket.faults.fault(fault, "POST", "uploads")
    bucket.faults.fault(fault, "PUT", "partNumber=2")
    bucket.faults.fault(fault, "POST", "uploadId")
    storage.upload(file(tmp_path / "file", content), "large")
    bucket.faults.fault(fault, "POST", "uploadId")
    storage.write("written", content)
    assert bucket.objects() == {"large": content, "written": content}
    assert bucket.faults.not_made() == []


def test_a_large_file_of_which_a_part_cannot_be_sent_is_not_there_and_leaves_no_parts(
    storage: S3Storage, bucket: Bucket, tmp_path: Path
) -> None:
    bucket.faults.fault(Answer(500, "InternalError"), "PUT", "partNumber=2", times=FOREVER)
    sentence = said(lambda: storage.upload(file(tmp_path / "file", os.urandom(2 * PART)), "large"))
    assert "store/large: S3 answered 500 InternalError in each of 3 attempts" in sentence
    assert bucket.objects() == {}
    assert "Uploads" not in bucket.client.list_multipart_uploads(Bucket=bucket.name)


# What S3 refuses.


REFUSALS = [
    (403, "AccessDenied", "access denied (AccessDenied); it takes s3:GetObject, s3:PutObject and s3:DeleteObject"),
    (403, "AccessDenied", "s3:ListBucket on the bucket, without which S3 says this of a missing key, too"),
    (400, "ExpiredToken", "the AWS credentials have expired; log in again or renew them"),
    (403, "InvalidAccessKeyId", "S3 does not accept the AWS credentials (InvalidAccessKeyId); set AWS_PROFILE"),
    (403, "RequestTimeTooSkewed", "this machine's clock is wrong (RequestTimeTooSkewed); set it"),
    (400, "AuthorizationHeaderMalformed", "the bucket is not in the region us-east-1"),
    (400, "InvalidArgument", "S3 refuses with 400 InvalidArgument: as the test wants it"),
]


def test_a_refusal_is_said_with_what_to_do(storage: S3Storage, bucket: Bucket, tmp_path: Path) -> None:
    path = file(tmp_path / "file", b"x")
    for status, code, sentence in REFUSALS:
        bucket.faults.clear()
        for method in ("GET", "PUT", "HEAD", "POST", "DELETE"):
            bucket.faults.fault(Answer(status, code), method, "", times=FOREVER)
        for action in (
            lambda: storage.read("key"),
            lambda: storage.exists("key"),
            lambda: storage.identity("key"),
            lambda: storage.write("key", b""),
            lambda: storage.create("key", b""),
            lambda: storage.upload(path, "key"),
            lambda: storage.download("key", path),
            lambda: storage.delete("key"),
            lambda: list(storage.keys("key")),
            lambda: list(storage.directories("key")),
        ):
            message = said(action)
            assert message.startswith(f"s3://{bucket.name}/store/key: ")
            assert sentence in message
            assert "\n" not in message


def test_a_redirection_that_leads_nowhere_is_said(storage: S3Storage, bucket: Bucket) -> None:
    bucket.faults.fault(Answer(301, "PermanentRedirect"), "GET", "key", times=FOREVER)
    assert said(lambda: storage.read("key")).endswith(
        "the bucket is not in the region us-east-1 (PermanentRedirect); set AWS_DEFAULT_REGION to the bucket's"
    )


def test_a_bucket_that_is_not_there_is_said(bucket: Bucket) -> None:
    storage = open_storage("s3://no-such-bucket/store")
    for action in (lambda: storage.read("key"), lambda: storage.write("key", b""), lambda: list(storage.keys(""))):
        assert said(action) == (
            "s3://no-such-bucket: there is no such bucket; create it, or correct the store's URL "
            "([storage] url of service.toml, STORAGE_URL)"
        )


def test_missing_credentials_are_said(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert said(lambda: open_storage(bucket.url).read("key")) == (
        f"{bucket.url}/key: no AWS credentials (Unable to locate credentials); set AWS_PROFILE, or AWS_ACCESS_KEY_ID "
        "and AWS_SECRET_ACCESS_KEY; a job in AWS has a role"
    )


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("AWS_PROFILE", "absent", r"The config profile \(absent\) could not be found"),
        ("AWS_ENDPOINT_URL", "nonsense", "Invalid endpoint: nonsense"),
    ],
)
def test_what_boto3_cannot_use_is_said(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(
        StorageError, match=rf"^{bucket.url}: boto3 cannot be set up: .*{reason}.*; check the variables"
    ):
        open_storage(bucket.url)


@pytest.mark.parametrize("value", ["many", "0", "-1"])
def test_a_number_of_attempts_that_is_none_is_said(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", value)
    assert said(lambda: open_storage(bucket.url)) == (
        f"environment variable AWS_MAX_ATTEMPTS = {value!r}: must be a whole number from 1 on"
    )


def test_an_endpoint_where_nobody_listens_is_said(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    assert f"store/key: no answer from {endpoint} in 3 attempts (" in said(lambda: open_storage(bucket.url).read("key"))


# Many keys.


def test_a_listing_of_several_pages_is_whole(
    storage: S3Storage, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
    keys = [f"models/v{i}/{name}" for i in range(4) for name in ("a", "b")]
    for key in keys:
        storage.write(key, b"")
    bucket.faults.fault(Answer(500, "InternalError"), "GET", "continuation-token")
    assert list(storage.keys("models/")) == keys
    assert list(storage.directories("models/")) == ["v0", "v1", "v2", "v3"]
    assert sum("continuation-token" in request for request in bucket.faults.requests) >= 3


# Publishing.


def source(path: Path, content: str, files: int = 12) -> Path:
    for i in range(files):
        file(path / f"{i}.txt", f"{content} {i}".encode())
    return path


def test_a_publisher_that_never_heard_that_it_won_has_won(storage: S3Storage, bucket: Bucket, tmp_path: Path) -> None:
    bucket.faults.fault(Reset(handled=True), "PUT", "manifest.json")
    published = manifest.publish(storage, "models/v1", source(tmp_path / "source", "x"), "model", "v1", {"mine": True})
    assert published.properties == {"mine": True}
    assert manifest.read(storage, "models/v1") == published
    assert len(bucket.objects()) == 12 + 1


@pytest.mark.parametrize("target", ["7.txt", "manifest.json"])
def test_an_artifact_that_cannot_be_sent_whole_is_not_there(
    storage: S3Storage, bucket: Bucket, tmp_path: Path, target: str
) -> None:
    bucket.faults.fault(Answer(500, "InternalError"), "PUT", target, times=FOREVER)
    directory = source(tmp_path / "source", "x")
    assert target in said(lambda: manifest.publish(storage, "models/v1", directory, "model", "v1", {}))
    assert manifest.find(storage, "models/v1") is None
    assert manifest.list_artifacts(storage, "models") == []


def test_an_artifact_is_fetched_whole_through_faults(storage: S3Storage, bucket: Bucket, tmp_path: Path) -> None:
    manifest.publish(storage, "models/v1", source(tmp_path / "source", "x"), "model", "v1", {})
    bucket.faults.fault(Truncated(), "GET", r"\.txt", nth=2, times=2)
    bucket.faults.fault(Reset(handled=False), "GET", r"\.txt", nth=6)
    bucket.faults.fault(Damaged(), "GET", r"\.txt", nth=9)
    _, content = manifest.fetch(storage, "models/v1", tmp_path / "cache")
    assert sorted(path.name for path in content.iterdir()) == sorted(f"{i}.txt" for i in range(12))
    assert bucket.faults.not_made() == []


def test_of_eight_publishers_at_once_through_faults_one_wins_whole_and_the_others_leave_nothing(
    storage: S3Storage, bucket: Bucket, tmp_path: Path
) -> None:
    # All of them find that nothing is there yet.
    bucket.faults.fault(Answer(404, "NoSuchKey"), "GET", "manifest.json", times=8)
    # Two of each: whatever request they come together at is tried three times.
    for nth in (1, 4):
        bucket.faults.fault(Reset(handled=True), "PUT", "manifest.json", nth=nth)
        bucket.faults.fault(Answer(500, "InternalError"), "PUT", r"\.txt", nth=6 * nth)
    sources = [source(tmp_path / str(i), str(i), files=4) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        manifests = list(
            pool.map(
                lambda path: manifest.publish(storage, "models/v1", path, "model", "v1", {"of": path.name}), sources
            )
        )
    assert bucket.faults.not_made() == []
    winner, content = manifest.fetch(storage, "models/v1", tmp_path / "cache")
    assert all(read == winner for read in manifests)
    assert (content / "0.txt").read_text() == f"{winner.properties['of']} 0"
    below = f"models/v1/{winner.content}"
    assert sorted(bucket.objects()) == sorted([*(f"{below}/{i}.txt" for i in range(4)), "models/v1/manifest.json"])


def test_a_publisher_that_lost_and_may_not_delete_is_content_with_the_winner(
    storage: S3Storage, bucket: Bucket, tmp_path: Path
) -> None:
    bucket.faults.fault(Answer(403, "AccessDenied"), "DELETE", "", times=FOREVER)
    # It does not see the first one's manifest before its own files are there.
    first = manifest.publish(storage, "models/v1", source(tmp_path / "one", "one"), "model", "v1", {})
    bucket.faults.fault(Answer(404, "NoSuchKey"), "GET", "manifest.json")
    assert manifest.publish(storage, "models/v1", source(tmp_path / "two", "two"), "model", "v1", {}) == first


class ToldToStop(BaseException):
    pass


def test_who_is_told_to_stop_does_not_wait_for_what_is_on_its_way(
    storage: S3Storage, bucket: Bucket, tmp_path: Path
) -> None:
    def handle(number: int, frame: FrameType | None) -> None:
        raise ToldToStop

    manifest.publish(storage, "models/v1", source(tmp_path / "source", "x"), "model", "v1", {})
    bucket.faults.fault(Slow(3), "GET", r"\.txt", times=FOREVER)
    before = signal.signal(signal.SIGALRM, handle)
    start = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(ToldToStop):
            manifest.fetch(storage, "models/v1", tmp_path / "cache")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - start < 2
    assert not (tmp_path / "cache" / "models" / "v1").exists()
