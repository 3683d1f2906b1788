"""Storage: keys are absent or whole, and of two creators one wins; in a directory and on S3."""

import errno
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlplatform.store.storage import LocalStorage, MissingKeyError, Storage, StorageError, open_storage
from mlplatform.tests.conftest import ROOT


def test_what_was_written_is_read(storage: Storage) -> None:
    storage.write("a/b.json", b"1")
    storage.write("a/b.json", b"2")
    assert storage.read("a/b.json") == b"2"


def test_a_missing_key_is_named_whatever_is_asked_of_it(storage: Storage, tmp_path: Path) -> None:
    for ask in (storage.read, storage.identity, lambda key: storage.download(key, tmp_path / "file")):
        with pytest.raises(MissingKeyError, match=r"store/a/b\.json: not there"):
            ask("a/b.json")
    assert not storage.exists("a/b.json")
    assert not (tmp_path / "file").exists()


def test_of_many_creators_at_once_exactly_one_wins(storage: Storage) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: storage.create("lock", str(i).encode()), range(16)))
    assert won.count(True) == 1
    assert storage.read("lock") == str(won.index(True)).encode()


def test_creators_of_the_same_content_do_not_both_win(storage: Storage) -> None:
    assert [storage.create("lock", b"same"), storage.create("lock", b"same")] == [True, False]


@pytest.mark.parametrize("size", [0, 1000, 20 << 20], ids=["empty", "small", "in parts"])
def test_a_file_comes_back_as_it_went(storage: Storage, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    storage.upload(tmp_path / "file", "a/file")
    (tmp_path / "back").write_bytes(b"what was there before")
    storage.download("a/file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content
    assert {path.name for path in tmp_path.iterdir()} - {"store"} == {"file", "back"}


def test_a_key_exists_and_its_identity_changes_with_the_content(storage: Storage) -> None:
    storage.write("key", b"one")
    first = storage.identity("key")
    assert storage.exists("key")
    assert storage.identity("key") == first
    storage.write("key.txt", b"one")
    assert list(storage.identities("", (".txt", ".csv"))) == [("key.txt", storage.identity("key.txt"))]
    assert next(storage.identities("")) == ("key", first)
    storage.write("key", b"two")
    assert storage.identity("key") != first


def test_a_directory_is_no_key(storage: Storage) -> None:
    storage.write("a/b", b"")
    assert not storage.exists("a")


def test_keys_are_listed_in_order_below_a_prefix(storage: Storage) -> None:
    for key in ("b/2", "b/1", "a/1", "bb/1", "b/ä c+d%20"):
        storage.write(key, b"")
    assert list(storage.keys("b/")) == ["b/1", "b/2", "b/ä c+d%20"]
    assert list(storage.keys("")) == ["a/1", "b/1", "b/2", "b/ä c+d%20", "bb/1"]
    assert list(storage.keys("c/")) == []


def test_directories_are_listed_with_what_they_hold_left_out(storage: Storage) -> None:
    for key in ("models/v2/manifest.json", "models/v1/x/y/z", "models/file", "runs/r1/a"):
        storage.write(key, b"")
    assert list(storage.directories("models/")) == ["v1", "v2"]
    assert list(storage.directories("")) == ["models", "runs"]
    assert list(storage.directories("absent/")) == []


def test_a_deleted_key_is_gone_and_deleting_it_again_is_no_fault(storage: Storage) -> None:
    storage.write("a/b", b"")
    storage.delete("a/b")
    storage.delete("a/b")
    assert not storage.exists("a/b")
    assert list(storage.directories("")) == []


def test_a_file_that_is_not_there_to_be_uploaded_is_said(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        storage.upload(tmp_path / "absent", "key")
    assert list(storage.keys("")) == []


@pytest.fixture
def local(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "store")


def test_what_a_killed_writer_left_is_removed_a_day_later_and_not_while_others_write(tmp_path: Path) -> None:
    local = LocalStorage(tmp_path / "store")
    local.write("a/first", b"1")
    left, being_written = local.root / "a" / ".partial-left", local.root / "a" / ".partial-now"
    for path in (left, being_written):
        path.touch()
    os.utime(left, (0, time.time() - 90_000))
    local.write("a/second", b"2")
    assert not left.exists()
    assert being_written.exists()


def test_files_that_are_still_being_written_are_not_listed(local: LocalStorage) -> None:
    local.write("a/key", b"")
    (local.root / "a" / ".partial-x1").touch()
    (local.root / ".partial-x2").touch()
    assert list(local.keys("")) == ["a/key"]


def test_the_identity_in_a_directory_is_the_same_on_every_machine(local: LocalStorage) -> None:
    local.write("key", b"one")
    assert local.identity("key") == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"


def test_a_write_that_fails_leaves_the_old_content_and_no_rest(
    local: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.write("key", b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"store/key: no space left on device; free some space or set STORAGE_URL"):
        local.write("key", b"new")
    assert local.read("key") == b"old"
    assert [path.name for path in local.root.iterdir()] == ["key"]


def test_a_published_file_is_readable_by_others(local: LocalStorage) -> None:
    local.write("key", b"")
    assert (local.root / "key").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("form", ["{}", "file://{}", "file://localhost{}"])
def test_a_directory_is_a_storage_url(tmp_path: Path, form: str) -> None:
    open_storage(form.format(tmp_path)).write("key", b"1")
    assert (tmp_path / "key").read_bytes() == b"1"


@pytest.mark.parametrize(
    "url",
    [
        "gs://bucket/prefix",
        "file://elsewhere/store",
        "file:store",
        "s3:bucket",
        "s3://",
        "s3:///prefix",
        "s3://Bucket_Name/prefix",
        "s3://bucket//prefix",
        "s3://bucket/../prefix",
    ],
)
def test_another_url_is_refused_with_the_allowed_forms(url: str) -> None:
    with pytest.raises(StorageError, match=r"must be a directory, file:///directory or s3://bucket/prefix"):
        open_storage(url)


def python(code: str, *blocked: str) -> subprocess.CompletedProcess[str]:
    """Run code where some packages are not installed."""
    hide = f"import sys; sys.modules.update(dict.fromkeys({blocked!r}))\n"
    return subprocess.run(
        [sys.executable, "-c", hide + code], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=600
    )


def test_a_directory_is_used_without_boto3(tmp_path: Path) -> None:
    code = f"from mlplatform.store import manifest, models, storage; storage.open_storage({str(tmp_path)!r})"
    assert python(code, "boto3", "botocore").returncode == 0


def test_where_boto3_is_not_installed_an_s3_url_says_so() -> None:
    code = (
        "from mlplatform.store.storage import StorageError, open_storage\n"
        "try: open_storage('s3://bucket/prefix')\n"
        "except StorageError as error: print(error)"
    )
    assert python(code, "boto3").stdout == (
        "storage URL 's3://bucket/prefix': S3 needs the package boto3, which is not installed here; "
        "requirements/training.txt and requirements/delivery.txt hold it\n"
    )


def test_a_key_is_replaced_only_if_it_is_what_it_was(storage: Storage) -> None:
    assert storage.replace("a/key", b"first", None)
    seen = storage.identity("a/key")
    assert not storage.replace("a/key", b"never", None)
    assert storage.replace("a/key", b"second", seen)
    assert not storage.replace("a/key", b"third", seen)
    assert storage.read("a/key") == b"second"


def test_of_several_who_replace_at_once_one_does(storage: Storage) -> None:
    storage.write("key", b"before")
    seen = storage.identity("key")
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda n: storage.replace("key", str(n).encode(), seen), range(8)))
    assert sum(done) == 1
    assert storage.read("key") == str(done.index(True)).encode()
